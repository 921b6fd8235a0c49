"""Measure images and models; each number is written down with all that it depends on."""

COMMANDS = {
    "compare": "say whether two records may be compared, and their scores side by side",
}
