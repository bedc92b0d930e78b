"""Published architectures as tables of layers, from the tables of their papers, and specifications that users write."""

from __future__ import annotations

import math
import re
import tomllib
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated

import msgspec

from regraft.compare.layer_table import Layer
from regraft.errors import AccessDenied, Damaged
from regraft.record.digest import Digest, digest_bytes

_NUMBER = r"[0-9]{1,9}"
_ROW = re.compile(
    rf"(conv1d|conv3d|conv|linear|embedding|lstm)\s+({_NUMBER})\s+({_NUMBER})((?:\s+[ksgd]{_NUMBER}(?:x{_NUMBER})*)*)"
)
_KINDS = {"linear": "linear", "embedding": "embedding", "lstm": "recurrent"}
_AXES = {"conv1d": 1, "conv": 2, "conv3d": 3}
_MAX_BYTES = 1 << 20
MAX_EXTENT = 1 << 16
"""Of an input along one axis: what is more is no size."""
_MAX_AXES = 8
_MAX_NUMBERS = 1 << 26
"""Of one sample, which is made up and run."""


class Architecture(msgspec.Struct, frozen=True):
    """What a network of a name is made of.

    Attributes:
        name: of the architecture.
        source: paper and table, or the file.
        layers: those with weights, in order; parameters are 0 where only the whole is published.
        input: extents of one sample that it was published for, channels first; empty where any will do.
        fed: extents of the sample with which the layers of another implementation were listed, channels first; empty
            for what was published, whose layers have no `output`.
        parameters: of the whole; None where not stated.
        multiply_adds: of one sample at `fed`, or else at `input`; None where not stated.
        digest: of the file; None for others.
    """

    name: str
    source: str
    layers: tuple[Layer, ...]
    input: tuple[int, ...] = ()
    parameters: int | None = None
    multiply_adds: int | None = None
    fed: tuple[int, ...] = ()
    digest: Digest | None = None


def row(text: str) -> Layer:
    """One layer as it is written: `conv 3 64 k7 s2`, `conv1d 64 64 k3 g64`, `linear 512 1000`.

    Raises:
        Damaged: it is none.
    """
    found = _ROW.fullmatch(text.strip())
    if found is None:
        raise Damaged(f"{text[:80]!r} is no layer: as in `conv 3 64 k7 s2 g1 d1`, `linear 512 1000`")
    channels = int(found[2]), int(found[3])
    told = {part[0]: tuple(map(int, part[1:].split("x"))) for part in found[4].split()}
    axes = _AXES.get(found[1], 0)
    if not axes:
        if told:
            raise Damaged(f"{text[:80]!r} is no layer: only convolutions have k, s, g and d")
        return Layer(_KINDS[found[1]], *channels)
    kernel, stride, dilation = (_extents(told.get(letter, (1,)), axes, text) for letter in "ksd")
    return Layer("convolution", *channels, kernel, stride, dilation, _extents(told.get("g", (1,)), 1, text)[0])


def _extents(given: tuple[int, ...], axes: int, text: str) -> tuple[int, ...]:
    """One number stands for all axes."""
    if len(given) not in (1, axes) or not all(given):
        raise Damaged(f"{text[:80]!r} is no layer: one number, or {axes}, and none of them 0")
    return given * axes if len(given) == 1 else given


def architecture_from_file(path: Path) -> Architecture:
    """A specification: TOML with `name`, `layers`, and if known `source`, `input`, `parameters`, `multiply_adds`.

    Raises:
        AccessDenied: it cannot be read.
        Damaged: it is no such file; says which row.
    """
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_BYTES + 1)
    except OSError as error:
        raise AccessDenied(f"cannot be read: {error.strerror or error}", where=str(path)) from error
    try:
        if len(content) > _MAX_BYTES:
            raise ValueError(f"more than {_MAX_BYTES} bytes")
        written = msgspec.convert(tomllib.loads(content.decode()), _Written)
        if math.prod(written.input) > _MAX_NUMBERS:
            raise ValueError(f"an input of more than {_MAX_NUMBERS} numbers")
        layers = tuple(row(text) for text in written.layers)
    except (ValueError, RecursionError) as error:
        raise Damaged(f"no specification of an architecture: {error}", where=str(path)) from error
    except Damaged as error:
        raise Damaged(error.what, where=str(path), hint="docs/how-to/fidelity.md has an example") from error
    return Architecture(
        written.name,
        written.source or str(path),
        layers,
        written.input,
        written.parameters,
        written.multiply_adds,
        digest=digest_bytes(content),
    )


class _Written(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    layers: Annotated[list[str], msgspec.Meta(min_length=1)]
    source: str = ""
    input: Annotated[
        tuple[Annotated[int, msgspec.Meta(ge=1, le=MAX_EXTENT)], ...], msgspec.Meta(max_length=_MAX_AXES)
    ] = ()
    parameters: Annotated[int, msgspec.Meta(ge=1)] | None = None
    multiply_adds: Annotated[int, msgspec.Meta(ge=1)] | None = None


def architecture(name: str) -> Architecture | None:
    """The published one of that name, whatever the spelling (`ResNet-50`, `resnet50`); None for an unknown one."""
    make = _KNOWN.get(_plain(name))
    return make() if make is not None else None


def architectures() -> tuple[Architecture, ...]:
    """All that are known."""
    return tuple(make() for make in _KNOWN.values())


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _made(
    name: str, source: str, rows: Sequence[str], shape: tuple[int, ...], parameters: int, adds: int | None = None
) -> Architecture:
    return Architecture(name, source, tuple(map(row, rows)), shape, parameters, adds)


def _conv(channels_in: int, channels_out: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> str:
    return f"conv {channels_in} {channels_out} k{kernel} s{stride} g{groups}"


def _squeezenet(version: str) -> Architecture:
    first, pooled = ((96, 7), "table 1") if version == "1.0" else ((64, 3), "the authors' repository, version 1.1")
    rows = [_conv(3, first[0], first[1], 2)]
    wide = first[0]
    for squeeze, expand in ((16, 64), (16, 64), (32, 128), (32, 128), (48, 192), (48, 192), (64, 256), (64, 256)):
        rows += [_conv(wide, squeeze), _conv(squeeze, expand), _conv(squeeze, expand, 3)]
        wide = 2 * expand
    rows.append(_conv(512, 1000))
    total = 1_248_424 if version == "1.0" else 1_235_496
    return _made(f"SqueezeNet {version}", f"Iandola et al. 2016, {pooled}", rows, (3, 224, 224), total)


def _resnet(depth: int) -> Architecture:
    blocks = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}[depth]
    published = {
        18: (11_689_512, 1_814_073_344), 34: (21_797_672, 3_663_761_408), 50: (25_557_032, 4_089_184_256),
        101: (44_549_160, 7_801_405_440), 152: (60_192_808, 11_513_626_624),
    }[depth]  # fmt: skip
    rows, wide = [_conv(3, 64, 7, 2)], 64
    for stage, (width, count) in enumerate(zip((64, 128, 256, 512), blocks, strict=True)):
        for number in range(count):
            stride = 2 if stage and not number else 1
            rows += _residual(wide, width, stride, is_bottleneck=depth >= 50)
            wide = width * (4 if depth >= 50 else 1)
    rows.append(f"linear {wide} 1000")
    where = "He et al. 2016, table 1" + ("; stride in the 3 × 3, as it is usually implemented" if depth >= 50 else "")
    return _made(f"ResNet-{depth}", where, rows, (3, 224, 224), *published)


def _residual(wide: int, width: int, stride: int, *, is_bottleneck: bool) -> Iterator[str]:
    if is_bottleneck:
        yield from (_conv(wide, width), _conv(width, width, 3, stride), _conv(width, 4 * width))
        made = 4 * width
    else:
        yield from (_conv(wide, width, 3, stride), _conv(width, width, 3))
        made = width
    if stride > 1 or wide != made:
        yield _conv(wide, made, 1, stride)


def _mobilenet_v2() -> Architecture:
    stages = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
    rows, wide = [_conv(3, 32, 3, 2)], 32
    for expansion, channels, count, stride in stages:
        for number in range(count):
            rows += _inverted(wide, channels, expansion, stride if not number else 1, 3)
            wide = channels
    rows += [_conv(320, 1280), "linear 1280 1000"]
    return _made("MobileNetV2", "Sandler et al. 2018, table 2", rows, (3, 224, 224), 3_504_872, 300_774_272)


def _inverted(wide: int, channels: int, expansion: int, stride: int, kernel: int) -> Iterator[str]:
    inner = wide * expansion
    if expansion > 1:
        yield _conv(wide, inner)
    yield from (_conv(inner, inner, kernel, stride, inner), _conv(inner, channels))


def _efficientnet_lite(number: int) -> Architecture:
    width, depth, side = ((1.0, 1.0, 224), (1.0, 1.1, 240), (1.1, 1.2, 260), (1.2, 1.4, 280), (1.4, 1.8, 300))[number]
    total = (4_652_008, 5_416_680, 6_092_072, 8_197_096, 13_006_568)[number]
    stages = ((1, 16, 1, 1, 3), (6, 24, 2, 2, 3), (6, 40, 2, 2, 5), (6, 80, 3, 2, 3), (6, 112, 3, 1, 5),
              (6, 192, 4, 2, 5), (6, 320, 1, 1, 3))  # fmt: skip
    rows, wide = [_conv(3, 32, 3, 2)], 32
    for place, (expansion, channels, count, stride, kernel) in enumerate(stages):
        repeats = count if place in (0, len(stages) - 1) else -(-round(count * depth * 1000) // 1000)
        made = _rounded(channels * width)
        for again in range(repeats):
            rows += _inverted(wide, made, expansion, stride if not again else 1, kernel)
            wide = made
    rows += [_conv(wide, 1280), "linear 1280 1000"]
    where = "Tan and Le 2019, table 1; without squeeze-and-excitation, stem and head unscaled"
    return _made(f"EfficientNet-lite{number}", where, rows, (3, side, side), total)


def _rounded(channels: float) -> int:
    """To a multiple of 8, not below nine tenths."""
    made = max(8, int(channels + 4) // 8 * 8)
    return made + 8 if made < 0.9 * channels else made


def _vgg(depth: int) -> Architecture:
    counts = {16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}[depth]
    rows, wide = [], 3
    for channels, count in zip((64, 128, 256, 512, 512), counts, strict=True):
        for _ in range(count):
            rows.append(_conv(wide, channels, 3))
            wide = channels
    rows += ["linear 25088 4096", "linear 4096 4096", "linear 4096 1000"]
    total = {16: 138_357_544, 19: 143_667_240}[depth]
    return _made(f"VGG-{depth}", "Simonyan and Zisserman 2015, table 1", rows, (3, 224, 224), total)


def _alexnet() -> Architecture:
    rows = [_conv(3, 64, 11, 4), _conv(64, 192, 5), _conv(192, 384, 3), _conv(384, 256, 3), _conv(256, 256, 3),
            "linear 9216 4096", "linear 4096 4096", "linear 4096 1000"]  # fmt: skip
    return _made("AlexNet", "Krizhevsky 2014, one tower", rows, (3, 224, 224), 61_100_840)


def _bert(name: str, source: str, depth: int, width: int, total: int | None = None) -> Architecture:
    rows = [f"embedding 30522 {width}", f"embedding 2 {width}", f"embedding 512 {width}"]
    rows += [text for _ in range(depth) for text in (
        *(f"linear {width} {width}",) * 4, f"linear {width} {4 * width}", f"linear {4 * width} {width}")]  # fmt: skip
    return Architecture(name, source, tuple(map(row, [*rows, f"linear {width} {width}"])), (), total)


_KNOWN: dict[str, Callable[[], Architecture]] = {
    "squeezenet10": partial(_squeezenet, "1.0"),
    "squeezenet11": partial(_squeezenet, "1.1"),
    **{f"resnet{depth}": partial(_resnet, depth) for depth in (18, 34, 50, 101, 152)},
    "mobilenetv2": _mobilenet_v2,
    **{f"efficientnetlite{number}": partial(_efficientnet_lite, number) for number in range(5)},
    "vgg16": partial(_vgg, 16),
    "vgg19": partial(_vgg, 19),
    "alexnet": _alexnet,
    "minilml6h384": partial(_bert, "MiniLM-L6-H384", "Wang et al. 2020, table 2", 6, 384, 22_713_216),
    "bertbase": partial(_bert, "BERT-base", "Devlin et al. 2019, section 3", 12, 768, 109_482_240),
}
