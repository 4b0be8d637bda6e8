"""Folders, hashes, signatures, cards and the Hugging Face Hub."""
