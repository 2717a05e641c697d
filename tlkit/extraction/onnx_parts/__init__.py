"""What networks written as ONNX are made of: the graph under construction, and the layers of transformers."""
