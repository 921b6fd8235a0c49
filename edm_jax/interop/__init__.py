"""Other projects' weights and files, read and written without executing anything."""
