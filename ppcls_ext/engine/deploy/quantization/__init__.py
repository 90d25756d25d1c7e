"""From a float ONNX export to one in int8 that has been measured before it takes its place."""
