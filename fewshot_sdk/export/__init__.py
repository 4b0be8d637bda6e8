"""Export to ONNX: a file is kept only if it agrees with PyTorch."""
