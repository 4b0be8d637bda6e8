"""ONNX graphs that adapt: the inner loop as operators."""
