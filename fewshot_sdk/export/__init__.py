"""An ONNX file, kept only if it agrees with PyTorch."""
