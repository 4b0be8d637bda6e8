"""Independent re-implementations that tests compare with."""
