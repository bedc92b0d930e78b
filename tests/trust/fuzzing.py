"""What every input must satisfy: all parsers and rule families get through it, whatever its bytes, without a fault.

`tools/fuzz.py` searches for inputs that break this, guided by coverage; a test tries damaged samples of the corpus.
"""

from __future__ import annotations

import contextlib
import functools
import random
from collections.abc import Iterator

from tests.trust.corpus import WRITTEN, samples

from regraft.errors import RegraftError
from regraft.package.archive import open_archive
from regraft.package.formats import Probe, recognise
from regraft.package.reader import BytesReader, Reader
from regraft.trust.scan import families
from regraft.trust.scan.interface import Site

NAMES = (
    "model.pkl model.pt model.bin model.joblib a.npy a.npz model.h5 model.keras model.json config.json model.onnx x.py "
    "tokenizer_config.json chat_template.jinja config.yaml model.tflite saved_model.pb model.gguf model.safetensors "
    "model.zip model.tar.gz model.xml model.mlmodel model.rds demo.ipynb requirements.txt package.json x.pth model.pte "
    "model.msgpack model.skops modules.json adapter_config.json model.safetensors.index.json x.sh model.pdmodel m.ort"
).split()
_MAX_DEPTH = 4
_MAX_MEMBERS = 40
_MAX_SEED_BYTES = 20_000


def judge(data: bytes, name: str) -> None:
    """Recognise, describe and examine one file and its members.

    Raises:
        anything but a RegraftError: a fault, which scan would report as "a check could not be completed".
    """
    with _Refusal():
        _visit(BytesReader(data, where=name), name, None, 0)


_Refusal = functools.partial(contextlib.suppress, RegraftError, OSError)
"""What a parser may raise: it goes no further, and says why."""


def _visit(reader: Reader, name: str, inside: str | None, depth: int) -> None:
    probe = Probe(reader, name)
    kind = recognise(probe)
    archive = None
    with _Refusal():
        archive = open_archive(reader)
    site = Site(name, None, probe, kind, archive, inside, archive is not None)
    for family in families():
        with _Refusal():
            list(family.examine(site))
    for member in archive.members[:_MAX_MEMBERS] if archive is not None and depth < _MAX_DEPTH else ():
        if not (member.is_directory or member.is_link or member.is_special):
            with _Refusal():
                content = archive.open_lazily(member)  # type: ignore[union-attr]
                _visit(content, f"{name}!{member.name}", kind.name if kind else "zip", depth + 1)


def seeds() -> Iterator[tuple[str, bytes]]:
    """(name, content) of the small files of the corpus."""
    for sample in samples(*WRITTEN):
        for path, content in sample.files.items():
            if 0 < len(content) <= _MAX_SEED_BYTES:
                yield path.rpartition("/")[2], content


def damaged(data: bytes, rng: random.Random) -> bytes:
    """The data with a few bytes flipped, cut out, doubled, or replaced by numbers at the edge of their range."""
    broken = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(broken)) if broken else 0
        way = rng.randrange(5)
        if way == 0 and broken:
            broken[at] ^= 1 << rng.randrange(8)
        elif way == 1:
            del broken[at : at + rng.randint(1, 16)]
        elif way == 2:
            broken[at:at] = broken[at : at + rng.randint(1, 64)]
        elif way == 3:
            broken[at : at + 4] = rng.choice(
                (b"\xff\xff\xff\xff", b"\0\0\0\0", b"\x7f\xff\xff\xff", b"\xff\xff\xff\x7f")
            )
        else:
            del broken[at:]
    return bytes(broken)
