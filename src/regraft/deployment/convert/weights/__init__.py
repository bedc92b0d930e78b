"""Weights without a network, from one container into another: every tensor read back from the new file and compared.

    made = convert_weights(files, path, to="npz", folder=folder)

A container (safetensors, npz, HDF5, GGUF, torch's pickles) is one module behind `interface.Container`, reader and
writer alike, so that any leads to any. No pickle is unpickled: what it describes is followed, and the elements are read
from their places. One tensor is in memory at a time.

**The proof.** The new file must hold every tensor with the bits that the old one has, after a conversion of dtypes that
loses nothing and is told in the findings. Both files are read twice, by the project's reader and by the library that
everybody else uses, where that is installed and takes the file: the tables of digests have to agree. The verdict is
pass when they do, fail with `weights.differs` when one does not, and inconclusive where something that may be a weight
could not be read (`weights.left_out`). `WeightsMade.content` is the same for the same weights in whatever container.
"""

from __future__ import annotations

from regraft.deployment.convert.weights.conversion import WeightsMade, convert_weights

__all__ = ["WeightsMade", "convert_weights"]
