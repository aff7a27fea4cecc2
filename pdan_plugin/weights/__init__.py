"""Weights files in and out: checkpoints, safetensors, ONNX, and the weights that come with this package."""
