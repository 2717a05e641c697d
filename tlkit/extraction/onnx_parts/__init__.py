"""The parts of networks written as ONNX: the graph under construction, and the layers of transformers."""
