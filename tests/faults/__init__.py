"""Faults made on purpose: what the disk refuses, what is killed, what a stranger sends."""
