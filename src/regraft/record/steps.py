"""The key of a step: two steps with one key would find out the same, so `run` does only the first."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import msgspec

from regraft.record.digest import Digest, digest_bytes
from regraft.record.evidence import JSON, Subject


def step_key(
    verb: str,
    *,
    version: int,
    subjects: Iterable[Subject],
    materials: Iterable[Subject] = (),
    parameters: Mapping[str, JSON] | None = None,
    seed: int | None = None,
    runtimes: Mapping[str, str] | None = None,
) -> Digest:
    """Digest of everything that the result of a step depends on.

    Names of subjects do not enter, their digests and where these come from do: a renamed package is the
    same package. Their order does enter, because the first subject is the one that is judged.

    Args:
        verb: what is done.
        version: raised by the step's author whenever the same input may give another result.
        parameters: the options that shape the result; those that only shape its display do not belong here.
        seed: of everything random.
        runtimes: package → version of what executes the model.
    Raises:
        ValueError: a parameter is not a JSON value, or not finite.
    """
    fields: JSON = {
        "verb": verb,
        "version": version,
        "subjects": [[subject.sha256, subject.digest.value] for subject in subjects],
        "materials": [[subject.sha256, subject.digest.value] for subject in materials],
        "parameters": dict(parameters or {}),
        "seed": seed,
        "runtimes": dict(runtimes or {}),
    }
    _require_json(fields, "")
    return digest_bytes(msgspec.json.encode(fields, order="deterministic"))


def _require_json(value: JSON, place: str) -> None:
    """Refuse what JSON would fold together with another value (NaN with null, a tuple with a list, 1 with "1")."""
    if isinstance(value, dict):
        for key, item in value.items():
            if type(key) is not str:
                raise ValueError(f"the key {key!r} at {place or 'the top'} is not a text")
            _require_json(item, f"{place}.{key}")
    elif isinstance(value, list):
        for index, item in enumerate(value):
            _require_json(item, f"{place}[{index}]")
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"{value} at {place} is not finite")
    elif value is not None and not isinstance(value, bool | int | str):
        raise ValueError(f"{type(value).__name__} at {place} is not a JSON value")
