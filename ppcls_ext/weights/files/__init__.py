"""Readers of weight files: Paddle, PyTorch, NumPy and safetensors."""
