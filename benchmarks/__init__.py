"""Every published figure of speed has its script here."""
