"""A tokenizer as operators of ONNX: tables that are taken from it, and the nodes that compute with them."""
