"""Devices, processes and disks: the only rooms that know them. Importing this imports no JAX."""
