"""From an initialization and examples to a classifier or a curve."""
