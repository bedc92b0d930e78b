"""The bounds under which hostile content is parsed. Beyond them a parser raises `LimitExceeded`."""

from __future__ import annotations

MAX_HEADER_BYTES = 100 << 20
"""A structured header that must be read whole (safetensors JSON, ONNX graph without weights)."""
MAX_TEXT_BYTES = 16 << 20
"""A text file that is parsed whole: config, tokenizer, card, code."""
MAX_MEMBERS = 200_000
"""Files of a package, or members of one archive."""
MAX_ARCHIVE_DEPTH = 8
"""Archives within archives."""
MAX_EXPANDED_BYTES = 8 << 30
"""Bytes that decompression may produce over one whole examination."""
MAX_EXPANSION_RATIO = 1_000
"""Decompressed over compressed size of one member, above which it counts as a bomb."""
MAX_TENSORS = 1_000_000
"""Tensors that one file may declare."""
MAX_NESTING = 200
"""Levels of a nested structure: JSON, protobuf, msgpack, groups."""
MAX_PICKLE_OPCODES = 20_000_000
"""Opcodes of one pickle stream."""
