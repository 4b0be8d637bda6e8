"""Data sets, and the tasks drawn from them."""
