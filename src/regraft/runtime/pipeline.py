"""torch: a package that Regraft made out of an encoder and a head, as one network from ids or pixels to logits."""

from __future__ import annotations

import contextlib
import json
import posixpath
from typing import TYPE_CHECKING, Any

import msgspec

from regraft.errors import Damaged, Unsupported
from regraft.package.formats import Port
from regraft.package.limits import MAX_TEXT_BYTES
from regraft.runtime.interface import LoadOptions
from regraft.runtime.pooling import MODES, Pooling
from regraft.runtime.torch_module import TorchModel
from regraft.runtime.torch_tensors import import_torch, torch_dtype

if TYPE_CHECKING:
    import torch
    from torch import nn

    from regraft.package.package import Package
    from regraft.runtime.interface import Model
    from regraft.runtime.verified import VerifiedFiles

SCHEMA = "regraft.package/1"
DESCRIPTION = "regraft.json"
STATIC, TRANSFORMERS, PROGRAM = "static-embedding", "transformers", "torch-export"
PIXELS = "pixels"
"""What the input of a network over pictures is called."""
_SUFFIXES = (".safetensors", ".pt2")
_MAX_LABELS = 100_000
_MAX_EXTENT = 1 << 16


class Stage(msgspec.Struct, frozen=True):
    """The parts of a pipeline, by their paths below `regraft.json`.

    Attributes:
        encoder: weights of the encoder.
        kind: `transformers`, `static-embedding`, or `torch-export` for a program from pixels to features (B, D).
        modes, normalise: as in `Pooling`; a program needs none.
        head: safetensors with `weight` (K, D) and `bias` (K,).
    """

    encoder: str
    kind: str
    head: str
    modes: tuple[str, ...] = ("mean",)
    normalise: bool = False


class TextSettings(msgspec.Struct, frozen=True):
    """How texts become token ids; what a graph in another runtime does not show of its encoder.

    Attributes:
        max_tokens: longer texts are cut there; None for no limit.
        lowercase: lower the texts first.
        special_tokens: let the tokenizer add its own.
    """

    max_tokens: int | None = None
    lowercase: bool = False
    special_tokens: bool = True


class Description(msgspec.Struct, frozen=True):
    """What a pipeline needs to know of `regraft.json`; the rest of it is for readers.

    Attributes:
        labels: class number → name.
        preprocessing: of texts; None where nobody says, and for pictures.
        picture_shape: (H, W) of the grey pictures that the head was learnt from, (H, W, 3) of coloured ones;
            empty for texts.
    """

    schema: str
    task: str
    pipeline: Stage
    labels: tuple[str, ...]
    preprocessing: TextSettings | None = None
    picture_shape: tuple[int, ...] = ()


class PipelineRuntime:
    """Loads encoder, pooling and head of a `regraft.package/1` as a `TorchModel` with the output `logits`."""

    name = "torch"

    def can_load(self, package: Package, path: str, options: LoadOptions) -> bool:
        """The encoder's weights of such a package; without its head they are an encoder like any other."""
        if options.factory is not None or not options.head or not path.endswith(_SUFFIXES):
            return False
        try:
            place = description_path(package)
            return place is not None and _beside(place, _description(package, place).pipeline.encoder) == path
        except Damaged:
            return False

    def load(self, files: VerifiedFiles, path: str, options: LoadOptions) -> TorchModel:
        """Load the encoder by its own member, then put pooling and head behind it."""
        import_torch(path)
        place = description_path(files.package)
        if place is None:
            raise Unsupported(f"no {DESCRIPTION} above the encoder", where=path)
        description = _description(files.package, place)
        stage = description.pipeline
        head = _head(files, _beside(place, stage.head), classes=len(description.labels))
        if stage.kind == PROGRAM:
            return _over_program(files, path, head, options)
        bare = msgspec.structs.replace(options, head=False)
        encoder = _encoder(files, path, stage.kind, bare)
        pooling = Pooling(stage.modes, stage.normalise, place)
        module = _network(encoder, pooling, head, where=path)
        if options.precision is not None:
            module = module.to(torch_dtype(options.precision))
        signature = encoder.signature
        inputs, ranges = list(signature.inputs), dict(signature.ranges)
        if all(port.name != "attention_mask" for port in inputs):
            inputs.append(Port("attention_mask", "int64", inputs[0].shape))
        return TorchModel(module, inputs=inputs, ranges=ranges, threads=options.threads, where=path)


def description_path(package: Package) -> str | None:
    """Where the nearest `regraft.json` to the top of the package is, None when there is none."""
    found = [
        entry.path
        for entry in package.entries
        if entry.obstacle is None and posixpath.basename(entry.path) == DESCRIPTION
    ]
    return min(found, key=lambda path: (path.count("/"), path), default=None)


def labels_of(package: Package) -> tuple[str, ...]:
    """Class number → name, as `regraft.json` says; empty when there is none.

    Raises:
        Damaged: the description is not what it should be.
    """
    found = description_of(package)
    return found.labels if found is not None else ()


def description_of(package: Package) -> Description | None:
    """What `regraft.json` says; None when there is none, or when it describes no pipeline (a converted encoder).

    Raises:
        Damaged: the description is not what it should be.
    """
    place = description_path(package)
    if place is None:
        return None
    with contextlib.suppress(ValueError, RecursionError):
        fields = json.loads(_content(package, place))
        if isinstance(fields, dict) and "pipeline" not in fields and "labels" not in fields:
            return None
    return _description(package, place)


def _description(package: Package, place: str) -> Description:
    try:
        found = msgspec.json.decode(_content(package, place), type=Description)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Damaged(f"not the description of a pipeline: {error}", where=place) from None
    if found.schema != SCHEMA:
        raise Damaged(f"the schema {found.schema[:60]!r} is not {SCHEMA!r}", where=place)
    if unknown := [mode for mode in found.pipeline.modes if mode not in MODES]:
        raise Damaged(f"pooling {unknown[0][:60]!r} is not one of {', '.join(MODES)}", where=place)
    if not 2 <= len(found.labels) <= _MAX_LABELS or not found.pipeline.modes:
        raise Damaged(f"{len(found.labels)} labels, {len(found.pipeline.modes)} ways to pool", where=place)
    if found.picture_shape and not _is_picture(found.picture_shape):
        raise Damaged(f"{found.picture_shape[:5]} is no shape of a picture", where=place)
    return found


def _content(package: Package, place: str) -> bytes:
    reader = package.open(place)
    try:
        return reader.read_all(limit=MAX_TEXT_BYTES)
    finally:
        reader.close()


def _is_picture(shape: tuple[int, ...]) -> bool:
    return all(0 < extent <= _MAX_EXTENT for extent in shape) and (len(shape) == 2 or shape[2:] == (3,))


def _beside(place: str, relative: str) -> str:
    """A path below the folder of `regraft.json`; one that leads out of it names nothing."""
    joined = posixpath.normpath(posixpath.join(posixpath.dirname(place), relative))
    return "" if joined.startswith(("..", "/")) else joined


def _encoder(files: VerifiedFiles, path: str, kind: str, options: LoadOptions) -> Model:
    if kind == STATIC:
        from regraft.runtime.static_embedding import StaticEmbeddingRuntime

        return StaticEmbeddingRuntime().load(files, path, msgspec.structs.replace(options, precision=None))
    if kind == TRANSFORMERS:
        from regraft.runtime.torch_transformers import TransformersRuntime

        return TransformersRuntime().load(files, path, options)
    raise Unsupported(f"an encoder of the kind {kind[:60]!r}", where=path)


def _head(files: VerifiedFiles, path: str, *, classes: int) -> dict[str, torch.Tensor]:
    from regraft.runtime.torch_weights import state_dict_from_files

    tensors = state_dict_from_files(files, path)
    weight, bias = tensors.get("weight"), tensors.get("bias")
    if weight is None or bias is None or weight.ndim != 2 or weight.shape[0] != classes or bias.shape != (classes,):
        shapes = ", ".join(f"{name} {tuple(tensor.shape)}" for name, tensor in list(tensors.items())[:5])
        raise Damaged(f"no linear head for {classes} classes: {shapes or 'no tensors'}", where=path)
    return {"weight": weight, "bias": bias}


def _network(encoder: Model, pooling: Pooling, head: dict[str, torch.Tensor], *, where: str) -> nn.Module:
    linear = _linear(head, where)
    if isinstance(encoder, TorchModel):
        return _classifier()(encoder.module, pooling, linear)
    return _static_classifier()(encoder, pooling, linear)


def _linear(head: dict[str, torch.Tensor], where: str) -> nn.Module:
    from torch import nn

    linear = nn.Linear(head["weight"].shape[1], head["weight"].shape[0])
    try:
        linear.load_state_dict(head)
    except RuntimeError as error:
        raise Damaged(f"the head cannot be filled: {error}", where=where) from None
    return linear


def _over_program(files: VerifiedFiles, path: str, head: dict[str, torch.Tensor], options: LoadOptions) -> TorchModel:
    """A head on what an exported program returns first, (B, D)."""
    from regraft.runtime.torch_export import TorchExportRuntime
    from regraft.runtime.torch_program import plain_module

    encoder = TorchExportRuntime().load(files, path, msgspec.structs.replace(options, head=False))
    if len(encoder.signature.inputs) != 1:
        raise Unsupported(f"a program of {len(encoder.signature.inputs)} inputs; one of pixels is wanted", where=path)
    (port,) = encoder.signature.inputs
    module = _feature_classifier()(plain_module(encoder), _linear(head, path))
    if options.precision is not None:
        module = module.to(torch_dtype(options.precision))
    dtype = options.precision or port.dtype
    pixels = Port(PIXELS, dtype, ("batch", *(port.shape or ())[1:]))
    return TorchModel(module, inputs=[pixels], threads=options.threads, where=path)


def _feature_classifier() -> type[nn.Module]:
    """The class of the network over a program; it exists once torch does."""
    from torch import nn

    class FeatureClassifier(nn.Module):
        """Features of pictures, linear head."""

        def __init__(self, encoder: nn.Module, head: nn.Module) -> None:
            super().__init__()
            self.encoder = encoder
            self.head = head

        def forward(self, pixels: torch.Tensor) -> dict[str, torch.Tensor]:
            return {"logits": self.head(self.encoder(pixels)[0])}  # (B, K)

    return FeatureClassifier


def _classifier() -> type[nn.Module]:
    """The class of the network; it exists once torch does."""
    from torch import nn

    class TextClassifier(nn.Module):
        """Encoder, pooling under the mask, linear head."""

        def __init__(self, encoder: nn.Module, pooling: Pooling, head: nn.Module) -> None:
            super().__init__()
            self.encoder = encoder
            self.head = head
            self._pooling = pooling

        def forward(
            self, input_ids: torch.Tensor, attention_mask: torch.Tensor, token_type_ids: torch.Tensor | None = None
        ) -> dict[str, torch.Tensor]:
            extra = {} if token_type_ids is None else {"token_type_ids": token_type_ids}
            hidden = self.encoder(input_ids=input_ids, attention_mask=attention_mask, **extra)[0]  # (B, T, D)
            return {"logits": self.head(_pooled(hidden, attention_mask, self._pooling))}  # (B, K)

    return TextClassifier


def _static_classifier() -> type[nn.Module]:
    """The class of the network over a matrix of token vectors."""
    import torch
    from torch import nn

    class StaticTextClassifier(nn.Module):
        """Token vectors, their mean under the mask, linear head."""

        def __init__(self, encoder: Any, pooling: Pooling, head: nn.Module) -> None:
            super().__init__()
            self.vectors = nn.Embedding(*encoder.matrix.shape)
            self.vectors.weight = nn.Parameter(torch.from_numpy(encoder.matrix), requires_grad=False)
            self.head = head
            self._normalise = pooling.normalise

        def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> dict[str, torch.Tensor]:
            ids = input_ids.clamp(0, self.vectors.num_embeddings - 1)
            vectors = self.vectors(ids)  # (B, T, D)
            mask = attention_mask.unsqueeze(-1).to(vectors.dtype)  # (B, T, 1)
            mean = (vectors * mask).sum(dim=1) / mask.sum(dim=1).clamp(min=1)  # (B, D)
            return {"logits": self.head(_unit(mean) if self._normalise else mean)}  # (B, K)

    return StaticTextClassifier


def _pooled(hidden: torch.Tensor, attention_mask: torch.Tensor, pooling: Pooling) -> torch.Tensor:
    """As `Pooling` does it in numpy: (B, T, D) to (B, D × modes)."""
    import torch

    mask = attention_mask.unsqueeze(-1).to(hidden.dtype)  # (B, T, 1)
    parts = [_pool(mode, hidden, mask) for mode in pooling.modes]
    joined = parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)
    return _unit(joined) if pooling.normalise else joined


def _pool(mode: str, hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    if mode == "cls":
        return hidden[:, 0]
    if mode == "max":
        return hidden.masked_fill(mask == 0, float("-inf")).amax(dim=1)
    total, count = (hidden * mask).sum(dim=1), mask.sum(dim=1).clamp(min=1e-9)
    return total / (count.sqrt() if mode == "mean_sqrt" else count)


def _unit(vectors: torch.Tensor) -> torch.Tensor:
    import torch

    length: torch.Tensor = torch.linalg.vector_norm(vectors, dim=1, keepdim=True)
    return vectors / length.clamp(min=1e-12)


def description_json(description: Description, **more: Any) -> bytes:
    """`regraft.json`: what a runtime needs, then what a reader wants to know."""
    fields: dict[str, Any] = msgspec.to_builtins(description)
    told = {name: value for name, value in fields.items() if value not in (None, [])}
    return json.dumps({**told, **more}, indent=2, ensure_ascii=False).encode() + b"\n"
