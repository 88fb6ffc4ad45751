"""Models for other libraries: folders of transformers and timm, ONNX, StableHLO."""
