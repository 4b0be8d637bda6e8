"""Folders and their hashes, signatures, cards, plots and the Hugging Face Hub."""
