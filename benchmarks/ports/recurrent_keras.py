"""LSTM and GRU, and their port to Keras: other gate orders, one bias for LSTM, both biases of GRU in one array."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from benchmarks.ports.interface import Arrays, Port, initialised
from torch import nn

D, H, K, CLASSES, T = 6, 9, 10, 4, 8


class Recurrent(nn.Module):
    """LSTM, GRU, the last state projected."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.gru = nn.LSTM(D, H, batch_first=True), nn.GRU(H, K, batch_first=True)
        self.norm, self.head = nn.LayerNorm(K), nn.Linear(K, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.norm(self.gru(self.lstm(x)[0])[0][:, -1]))


def truth(w: Arrays) -> dict[str, np.ndarray]:
    """By hand: Keras has z, r, h where torch has r, z, n."""
    swapped = lambda value: value.reshape(3, K, -1)[[1, 0, 2]].reshape(value.shape)  # noqa: E731
    return {
        "first/lstm_cell/kernel": w["lstm.weight_ih_l0"].T,
        "first/lstm_cell/recurrent_kernel": w["lstm.weight_hh_l0"].T,
        "first/lstm_cell/bias": w["lstm.bias_ih_l0"] + w["lstm.bias_hh_l0"],
        "second/gru_cell/kernel": swapped(w["gru.weight_ih_l0"]).T,
        "second/gru_cell/recurrent_kernel": swapped(w["gru.weight_hh_l0"]).T,
        "second/gru_cell/bias": np.stack([swapped(w["gru.bias_ih_l0"]), swapped(w["gru.bias_hh_l0"])]),
        "level/gamma": w["norm.weight"], "level/beta": w["norm.bias"],
        "last/kernel": w["head.weight"].T, "last/bias": w["head.bias"],
    }  # fmt: skip


def reference() -> tuple[Any, dict[str, Any]]:
    """In torch."""
    return initialised(Recurrent()), FEEDS


def candidate() -> tuple[Any, dict[str, Any]]:
    """In Keras."""
    from regraft.runtime.keras_model import import_keras

    keras = import_keras()
    given = keras.Input((T, D), name="x")
    x = keras.layers.LSTM(H, return_sequences=True, name="first")(given)
    x = keras.layers.LayerNormalization(epsilon=1e-5, name="level")(keras.layers.GRU(K, name="second")(x))
    return keras.Model(given, keras.layers.Dense(CLASSES, name="last")(x)), FEEDS


FEEDS = {"x": np.random.default_rng(4).normal(size=(3, T, D)).astype(np.float32)}
PORT = Port(
    "lstm + gru", "torch → Keras", "gate orders, biases added up or stacked", reference, candidate, FEEDS, truth
)
