"""Networks and preprocessing as ONNX operators."""
