"""The runs: one file each, with `get_config()`."""
