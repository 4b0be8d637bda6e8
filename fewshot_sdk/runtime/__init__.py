"""What a deployer imports: onnxruntime, no PyTorch."""
