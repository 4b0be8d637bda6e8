"""Networks, made from their settings."""
