"""Initializations, classifiers and regressors: saved to folders, shared on the Hub, opened by name."""
