"""ONNX: an exported model as a graph that other engines run."""
