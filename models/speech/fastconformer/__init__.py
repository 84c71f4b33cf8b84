"""The cache-aware FastConformer: network, ONNX graphs, streaming encoder, conversion from NeMo."""
