"""Export of trained models to ONNX, and greedy search with the exported model."""
