"""Names that the Open Inference Protocol has for element types.

Source: Open Inference Protocol, Required API, "Tensor Data Types" (2022); BF16 is Triton's addition.
"""

from __future__ import annotations

PROTOCOL_TYPES = {
    "bool": "BOOL", "uint8": "UINT8", "uint16": "UINT16", "uint32": "UINT32", "uint64": "UINT64", "int8": "INT8",
    "int16": "INT16", "int32": "INT32", "int64": "INT64", "float16": "FP16", "float32": "FP32", "float64": "FP64",
    "bfloat16": "BF16", "string": "BYTES",
}  # fmt: skip
"""dtype → the protocol's name."""
DTYPES = {name: dtype for dtype, name in PROTOCOL_TYPES.items()}
