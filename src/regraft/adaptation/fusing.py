"""One deployable package out of an encoder and a head: weights, preprocessing, pooling, labels, licence, lineage."""

from __future__ import annotations

import json
import posixpath
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from regraft.adaptation.extraction import text_encoder
from regraft.adaptation.features import export_network
from regraft.errors import Unsupported
from regraft.package.formats import Role
from regraft.package.licence import identify_licence
from regraft.package.limits import MAX_TEXT_BYTES
from regraft.package.package import Package
from regraft.runtime import model_path
from regraft.runtime.image import SETTINGS, preprocessor_config
from regraft.runtime.pipeline import (
    DESCRIPTION,
    PROGRAM,
    STATIC,
    TRANSFORMERS,
    Description,
    Stage,
    TextSettings,
    description_json,
)
from regraft.runtime.verified import VerifiedFiles
from regraft.runtime.vouched import runs_code

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from regraft.adaptation.features import Candidate, Examined, Setting
    from regraft.runtime.text import TextEncoder

ENCODER, IMAGE_ENCODER, HEAD = "encoder/model.safetensors", "encoder/model.pt2", "head.safetensors"
_DROPPED = ("pooler.",)
"""Weights of a BERT that no pooling over token vectors uses."""
_REMOTE = ("auto_map", "_name_or_path", "name_or_path", "transformers_version", "_commit_hash")
_MAX_LICENCES = 10
_NO_LIMIT = 1 << 20


class Licence(msgspec.Struct, frozen=True):
    """A licence text of the package that was built on.

    Attributes:
        path: there.
        spdx: None where the text is not recognised.
    """

    path: str
    content: bytes
    spdx: str | None


class Head(msgspec.Struct, frozen=True):
    """A linear classifier on features: logits = features @ weight.T + bias.

    Attributes:
        weight: (K, D) float32.
        bias: (K,) float32.
    """

    weight: NDArray[np.float32]
    bias: NDArray[np.float32]

    def __call__(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """(N, K) logits of (N, D) features."""
        logits: NDArray[np.float32] = features @ self.weight.T + self.bias
        return logits


def write_text_encoder(
    folder: Path, package: Package, examined: Examined, code_loader: str = ""
) -> tuple[Stage, TextSettings]:
    """Write weights, configuration and tokenizer of a text encoder into a folder of its own below an empty one.

    Args:
        package: the open package of the encoder.
        code_loader: as `regraft.runtime.vouched.load_vouched`; an encoder of code is copied, its code with it.
    Raises:
        Unsupported: the encoder is of a kind that cannot be written again.
    """
    candidate = examined.candidate
    encoder = text_encoder(package, examined.permit, candidate.runtime, code_loader=code_loader)
    place = (folder / ENCODER).parent
    place.mkdir()
    if runs_code(examined.permit):
        kind = _copy_encoder(place, package, examined)
        encoder.model.close()
    else:
        kind = _write_encoder(place, encoder, candidate)
    _write_tokenizer(place, encoder)
    limit = encoder.max_tokens if encoder.max_tokens < _NO_LIMIT else None
    settings = TextSettings(limit, encoder.lowercase, encoder.special_tokens)
    return Stage(ENCODER, kind, HEAD, encoder.pooling.modes, encoder.pooling.normalise), settings


def write_image_encoder(folder: Path, examined: Examined, setting: Setting) -> Stage:
    """Write an image network as a program that runs without its code, and how its pictures are prepared.

    Raises:
        Unsupported: it is no torch network, or torch.export cannot follow it.
        CandidateFailed: it crashed, or took longer than the time limit.
    """
    place = folder / IMAGE_ENCODER
    place.parent.mkdir()
    pictures = export_network(examined, place, setting)
    (place.parent / SETTINGS).write_bytes(preprocessor_config(pictures))
    return Stage(IMAGE_ENCODER, PROGRAM, HEAD)


def write_rest(
    folder: Path, head: Head, description: Description, package: Package | None, *, lineage: dict[str, Any]
) -> tuple[Licence, ...]:
    """Write everything but encoder and card; returns the licences that were carried over.

    Args:
        package: the open package of the encoder; None for code of the user's own.
        lineage: for readers of `regraft.json`.
    """
    import numpy as np
    from safetensors.numpy import save_file

    # safetensors writes the memory as it lies: the weights of three and more classes lie in columns
    save_file({"weight": np.ascontiguousarray(head.weight), "bias": head.bias}, folder / HEAD)
    (folder / DESCRIPTION).write_bytes(description_json(description, lineage=lineage))
    licences = licences_of(package) if package is not None else ()
    for number, licence in enumerate(licences):
        name = posixpath.basename(licence.path)
        place = folder / "licenses" / (name if number == 0 else f"{number}-{name}")
        place.parent.mkdir(exist_ok=True)
        place.write_bytes(licence.content)
    return licences


def licences_of(package: Package) -> tuple[Licence, ...]:
    """Licence texts of a package, at most ten."""
    found: list[Licence] = []
    for entry in package.entries:
        if entry.obstacle is not None or entry.size_bytes > MAX_TEXT_BYTES or len(found) >= _MAX_LICENCES:
            continue
        stem = posixpath.basename(entry.path).lower()
        if not stem.startswith(("licen", "copying", "notice")):
            continue
        probe, recognised = package.probe(entry.path)
        if recognised is not None and recognised.role is Role.LICENCE:
            content = probe.reader.read_all(limit=MAX_TEXT_BYTES)
            match = identify_licence(content.decode("utf-8", "replace"))
            found.append(Licence(entry.path, content, match.spdx if match else None))
    return tuple(found)


def _write_encoder(folder: Path, encoder: TextEncoder, candidate: Candidate) -> str:
    """Write weights and configuration; returns the kind."""
    from regraft.runtime.static_embedding import StaticEmbeddingModel
    from regraft.runtime.torch_module import TorchModel

    model = encoder.model
    if isinstance(model, StaticEmbeddingModel):
        from safetensors.numpy import save_file

        save_file({"embedding.weight": model.matrix}, folder / "model.safetensors")
        return STATIC
    config = getattr(getattr(model, "module", None), "config", None)
    if not isinstance(model, TorchModel) or config is None:
        raise Unsupported(
            f"an encoder in {model.runtime} is not written again; only its features can be compared",
            where=candidate.ref,
            hint="adapt the package of the torch weights",
        )
    from safetensors.torch import save_file as save_tensors

    module = model.module
    state = {name: t.detach().clone().contiguous() for name, t in module.state_dict().items() if _is_used(name)}
    save_tensors(state, folder / "model.safetensors", metadata={"format": "pt"})
    fields = {key: value for key, value in config.to_dict().items() if key not in _REMOTE}
    fields["architectures"] = [type(module).__name__]
    (folder / "config.json").write_text(json.dumps(fields, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    return TRANSFORMERS


def _copy_encoder(folder: Path, package: Package, examined: Examined) -> str:
    """Copy weights, configuration and the Python files beside them, byte by byte; returns the kind."""
    path = model_path(package, runtime=examined.candidate.runtime)
    if not path.endswith(".safetensors"):
        raise Unsupported("the weights of an encoder with code of its own must be safetensors", where=path)
    files = VerifiedFiles(package, examined.permit)
    files.copy(path, folder / "model.safetensors")
    root = posixpath.dirname(path)
    for entry in package.entries:
        name = posixpath.relpath(entry.path, root or ".")
        if entry.obstacle is None and (name == "config.json" or (name.endswith(".py") and "/" not in name)):
            files.copy(entry.path, folder / name)
    return TRANSFORMERS


def _is_used(name: str) -> bool:
    return not name.startswith(_DROPPED)


def _write_tokenizer(folder: Path, encoder: TextEncoder) -> None:
    """Tokenizer, length limit and pooling, under the names by which other tools find them too."""
    encoder.tokenizer.no_truncation()
    (folder / "tokenizer.json").write_text(encoder.tokenizer.to_str(pretty=True), encoding="utf-8")
    encoder.tokenizer.enable_truncation(encoder.max_tokens)
    if encoder.max_tokens >= _NO_LIMIT:
        return
    _write_json(
        folder / "sentence_bert_config.json",
        {"max_seq_length": encoder.max_tokens, "do_lower_case": encoder.lowercase},
    )
    names = ["Transformer", "Pooling", *(["Normalize"] if encoder.pooling.normalise else [])]
    _write_json(
        folder / "modules.json",
        [
            {
                "idx": i,
                "name": str(i),
                "path": "" if i == 0 else f"{i}_{name}",
                "type": f"sentence_transformers.models.{name}",
            }
            for i, name in enumerate(names)
        ],
    )
    (folder / "1_Pooling").mkdir()
    _write_json(
        folder / "1_Pooling" / "config.json", {f"pooling_mode_{_FLAGS[m]}": True for m in encoder.pooling.modes}
    )


_FLAGS = {"mean": "mean_tokens", "cls": "cls_token", "max": "max_tokens", "mean_sqrt": "mean_sqrt_len_tokens"}


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
