"""A few steps on one task, fast."""
