"""Reading and writing weights: checkpoints, safetensors, ONNX, and the weights that come with this package."""
