"""The commands, one per file: options, work and output."""
