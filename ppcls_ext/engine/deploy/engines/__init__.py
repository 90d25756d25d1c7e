"""What runs an exported graph: Paddle Inference, ONNX Runtime or OpenVINO, behind one interface."""
