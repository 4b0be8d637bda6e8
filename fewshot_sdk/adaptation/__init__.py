"""Adapting an initialization to examples: the result is a classifier or a regressor."""
