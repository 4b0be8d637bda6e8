"""The commands, one a file: its options, what it does, what it prints."""
