"""A script for each published figure."""
