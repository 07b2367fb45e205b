"""The ort backend: per worker a list of segments, each an ONNX Runtime session."""
