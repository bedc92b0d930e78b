"""A hop from a network that lives in the sandbox: the converter works there, and only files come out."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from regraft.deployment.convert.interface import Hop, Source
from regraft.errors import Damaged, Unsupported

if TYPE_CHECKING:
    from regraft.runtime.interface import Array, Model
    from regraft.runtime.isolated import IsolatedModel

_NAME = re.compile(r"[\w-][\w.-]{0,100}")
_MAX_FILES = 100


def hop_in_sandbox(converter: str, source: Source, model: IsolatedModel) -> Hop:
    """As the converter's `convert`, called where the model is.

    Raises:
        Unsupported: as there.
        Crashed: the process died.
        Damaged: what came out is no hop.
    """
    feeds = {f"{number}/{name}": value for number, case in enumerate(source.feeds) for name, value in case.items()}
    place = f"{__name__}:convert_here"
    fields, files = model.apply(place, feeds, converter=converter, path=source.path, where=source.where)
    if not 0 < len(files) <= _MAX_FILES or not all(_NAME.fullmatch(name) for name in files):
        raise Damaged(f"{len(files)} files came out of the sandbox, or their names are none", where=source.where)
    notes, versions = fields.get("notes") or [], fields.get("versions") or {}
    return Hop(
        {name: content.tobytes() for name, content in files.items()},
        str(fields.get("runtime", "")),
        tuple(str(note)[:500] for note in notes),
        {str(name): str(version)[:100] for name, version in versions.items()},
        fields["precision"] if isinstance(fields.get("precision"), str) else None,
    )


def convert_here(
    model: Model, arrays: dict[str, Array], *, converter: str, path: str, where: str
) -> tuple[dict[str, Any], dict[str, Array]]:
    """In the sandbox: convert, and give back what a hop says and its files."""
    import numpy as np

    from regraft.deployment.convert.members import converters

    member = next((one for one in converters() if one.name == converter), None)
    if member is None:
        raise Unsupported(f"the sandbox has no converter {converter}", where=where)
    cases: dict[str, dict[str, Array]] = {}
    for name, value in arrays.items():
        number, _, port = name.partition("/")
        cases.setdefault(number, {})[port] = value
    hop = member.convert(Source(model, tuple(cases.values()), None, path, where))
    fields = {
        "runtime": hop.runtime, "notes": list(hop.notes), "versions": hop.versions, "precision": hop.precision,
    }  # fmt: skip
    return fields, {name: np.frombuffer(content, dtype=np.uint8) for name, content in hop.files.items()}
