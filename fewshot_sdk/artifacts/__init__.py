"""What is saved, shared and opened by name."""
