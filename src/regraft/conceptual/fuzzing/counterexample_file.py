"""A counterexample as a file: inputs as safetensors, and in its metadata the weights to use, as a recipe."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from regraft.errors import Damaged, MissingExtra, NotFound, UsageError
from regraft.package.product import new_package

if TYPE_CHECKING:
    import numpy as np

    from regraft.conceptual.fuzzing.search import Counterexample

SCHEMA = "regraft.counterexample/1"
_KEY = "regraft"
_PROGRAM = '''"""Inputs on which {candidate} once differed from {reference}.

Written by `regraft replicate --fuzz --emit-tests`; needs Regraft, which gives both the same weights and runs them.

usage: pytest {folder}
"""

from pathlib import Path

import pytest
import regraft

HERE = Path(__file__).parent
REFERENCE, CANDIDATE = {reference!r}, {candidate!r}
OPTIONS = {options!r}
OPTIONS |= {{name: HERE / path for name, path in {paths!r}.items()}}
FILES = sorted(HERE.glob("*.safetensors"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_counterexample(file):
    evidence = regraft.replicate(REFERENCE, CANDIDATE, replay=[file], **OPTIONS)
    assert evidence.verdict == "pass", evidence.summary
'''


_BESIDE = "options"
"""Folder, in that of the tests, of files that options name."""


class Recipe(msgspec.Struct, frozen=True, kw_only=True):
    """Which weights a counterexample is for.

    Attributes:
        checkpoint: name of the set of weights.
        seed: that it is made of.
        message: what differed.
    """

    schema: str = SCHEMA
    checkpoint: str
    seed: int
    message: str = ""


def counterexample_bytes(found: Counterexample, *, seed: int) -> bytes:
    """The file's content.

    Raises:
        MissingExtra: safetensors is not installed.
    """
    import numpy as np

    recipe = Recipe(checkpoint=found.checkpoint.name, seed=seed, message=found.outcome.message)
    try:
        from safetensors.numpy import save
    except ImportError as error:
        raise MissingExtra("safetensors", extra="text") from error
    arrays = {name: np.array(value, order="C") for name, value in found.feeds.items()}
    return save(arrays, {_KEY: msgspec.json.encode(recipe).decode()})


def counterexample_from_file(path: Path) -> tuple[Recipe, dict[str, np.ndarray]]:
    """The weights to use, and the inputs by the reference's names.

    Raises:
        NotFound: there is no such file.
        Damaged: it is no safetensors file.
        UsageError: it is one, and no counterexample.
    """
    if not path.is_file():
        raise NotFound("there is no such file", where=str(path))
    try:
        from safetensors import SafetensorError, safe_open
    except ImportError as error:
        raise MissingExtra("safetensors", extra="text", where=str(path)) from error
    try:
        with safe_open(path, "numpy") as file:
            told = (file.metadata() or {}).get(_KEY, "")
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  no mapping
    except (SafetensorError, OSError, ValueError, TypeError) as error:
        raise Damaged(f"safetensors: {error}", where=str(path)) from error
    try:
        return msgspec.json.decode(told, type=Recipe), arrays
    except msgspec.MsgspecError as error:
        raise UsageError(
            "it holds arrays, and no counterexample", where=str(path), hint="inputs of your own: --feeds FILE"
        ) from error


def write_counterexample_tests(
    folder: Path, files: Mapping[str, bytes], *, reference: str, candidate: str, options: Mapping[str, object]
) -> None:
    """A test for each counterexample: it fails until the candidate is mended.

    Args:
        folder: to make; it must not exist, or be empty.
        files: name → content.
        reference, candidate: references that `regraft.replicate` takes.
        options: of `regraft.replicate` that the search was made with; files are copied.
    Raises:
        UsageError: the folder is taken.
    """
    with new_package(folder) as made:
        for name, content in files.items():
            (made / f"{name}.safetensors").write_bytes(content)
        paths = {name: f"{_BESIDE}/{name}{path.suffix}" for name, path in options.items() if isinstance(path, Path)}
        for name, path in paths.items():
            (made / _BESIDE).mkdir(exist_ok=True)
            shutil.copyfile(str(options[name]), made / path)
        others = {name: value for name, value in options.items() if name not in paths}
        program = _PROGRAM.format(
            reference=reference, candidate=candidate, folder=folder.name, options=others, paths=paths
        )
        (made / "test_counterexamples.py").write_text(program, "utf-8")


def check_names(arrays: Mapping[str, np.ndarray], names: Sequence[str], path: Path) -> None:
    """Raise UsageError unless the arrays are the inputs of this reference."""
    if set(arrays) != set(names):
        raise UsageError(f"it has the inputs {sorted(arrays)}, the reference takes {sorted(names)}", where=str(path))
