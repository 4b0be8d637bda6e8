"""Reptile and its kin: the outer loop."""
