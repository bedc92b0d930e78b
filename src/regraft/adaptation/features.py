"""Features of every candidate, computed once in a process of its own and kept by the content they depend on."""

from __future__ import annotations

import contextlib
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from regraft.adaptation.candidate_process import CandidateFailed, run_candidate
from regraft.adaptation.extraction import Extracted, ExtractionTask
from regraft.errors import MissingExtra, StoreError
from regraft.package.package import open_package
from regraft.package.reference import parse_reference
from regraft.package.sources.interface import SourceOptions
from regraft.record.digest import Digest, digest_bytes, digest_chunks
from regraft.record.evidence import Artifact, DigestKind, Draft, Evidence, Subject
from regraft.record.passport import Passport, read_passport
from regraft.record.permit import Permit
from regraft.record.steps import step_key
from regraft.runtime import model_path
from regraft.runtime.permission import PermitSource, code_loader_of, leave_to_load

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from regraft.adaptation.data import LabelledData
    from regraft.record.store import Store
    from regraft.runtime.image import ImagePreprocessing

FEATURES_VERSION = 1
TIME_LIMIT_S = 900.0
_MEDIA_TYPE = "application/vnd.safetensors"
_RUNTIME_PACKAGES = ("torch", "transformers", "tokenizers", "onnxruntime", "openvino", "numpy")


class Candidate(msgspec.Struct, frozen=True, kw_only=True):
    """A package that might be reused.

    Attributes:
        name: how tables call it; None for the last part of the reference.
        ref: as a user writes it; `py:module:factory` is the user's own network.
        runtime: what executes it; None for the first that can.
        factory: `module:factory`, the user's own code that builds the network for bare weights.
        tap: of an image network, which intermediate tensor is the feature; None for the first output.
    """

    ref: str
    name: str | None = None
    runtime: str | None = None
    factory: str | None = None
    tap: str | None = None

    @property
    def title(self) -> str:
        """The name, or what the reference suggests."""
        if self.name:
            return self.name
        parsed = parse_reference(self.ref)
        return parsed.inside.rstrip("/").rsplit("/", 1)[-1] if parsed.inside else parsed.name


class Examined(msgspec.Struct, frozen=True):
    """A candidate seen from outside: nothing of it was loaded.

    Attributes:
        subject: the package and its digest.
        size_bytes: of its files; None for the user's own code.
        passport: what the store knows about it.
    """

    candidate: Candidate
    subject: Subject
    size_bytes: int | None
    passport: Passport
    permit: Permit | None = None


class Features(msgspec.Struct, frozen=True):
    """What a candidate makes of some rows.

    Attributes:
        vectors: (N, D) float32, in the order of the rows.
        ms_per_row: wall time of encoding, of the run that computed them.
        is_cached: they were in the store already.
    """

    vectors: NDArray[np.float32]
    preprocessing: str
    runtime: str
    precision: str
    ms_per_row: float
    is_cached: bool


class Setting(msgspec.Struct, frozen=True, kw_only=True):
    """Where and under which limits candidates are examined and run.

    Attributes:
        time_limit_s: wall time after which a candidate counts as hanging.
        permit: leave to load; None takes it from the newest scan in the store.
        search_path: folders in which the user's own code is looked up.
    """

    store: Store
    offline: bool = False
    threads: int | None = None
    time_limit_s: float = TIME_LIMIT_S
    permit: PermitSource | None = None
    search_path: tuple[str, ...] = ()


def examine(candidate: Candidate, setting: Setting) -> Examined:
    """Open a candidate, hash it, and read what is known about these bytes.

    Raises:
        RegraftError: it cannot be opened, holds no model or several, or no permit covers it.
    """
    if candidate.ref.startswith("py:"):
        subject = _own_code(candidate, setting)
        return Examined(candidate, subject, None, read_passport(setting.store, subject.sha256))
    options = SourceOptions(offline=setting.offline, store=setting.store)
    with open_package(candidate.ref, options=options) as package:
        path = model_path(package, runtime=candidate.runtime, factory=candidate.factory)
        manifest = package.manifest()
        passport = read_passport(setting.store, manifest.digest)
        permit = leave_to_load(package, path, source=setting.permit, store=setting.store, runtime=candidate.runtime)
        size = sum(entry.size_bytes for entry in manifest.entries)
        subject = Subject(candidate.title, manifest.digest, manifest.digest_kind)
    return Examined(candidate, subject, size, passport, permit)


def _own_code(candidate: Candidate, setting: Setting) -> Subject:
    """The user's own network: the file of its module, and which function there. What that imports is not covered."""
    code = _module_file(candidate.ref.removeprefix("py:"), setting)
    kind = DigestKind.PARTIAL if code is not None else DigestKind.DECLARED
    return Subject(candidate.title, digest_chunks([code or b"", candidate.ref.encode()]), kind)


def _module_file(place: str, setting: Setting) -> bytes | None:
    """The source of `module:function`, None where no folder has it."""
    module = place.partition(":")[0].replace(".", "/")
    for folder in (*setting.search_path, *sys.path):
        for path in (Path(folder, f"{module}.py"), Path(folder, module, "__init__.py")):
            if path.is_file():
                return path.read_bytes()
    return None


def extract(examined: Examined, data: LabelledData, rows: NDArray[np.int64], setting: Setting) -> Features:
    """Features of some rows: from the store, or computed in a process that may crash without harm.

    Args:
        examined: a candidate that may be loaded.
        rows: row numbers of `data`.
    Raises:
        Unsupported, PermitRefused, Damaged, …: as the candidate's process reports.
        CandidateFailed: it crashed, or took longer than the time limit.
    """
    inputs = data.digest(rows)
    key = _key(examined, inputs, setting)
    store = setting.store
    if (kept := store.step(key)) is not None and (found := _kept(store.evidence(kept), store)) is not None:
        return found
    with tempfile.TemporaryDirectory(prefix="regraft-") as folder:
        inputs_file = _inputs(data, rows, Path(folder))
        task = _task(examined, setting, inputs=inputs_file, output=Path(folder) / "features.safetensors")
        label = f"features: {examined.subject.name}"
        outcome = run_candidate(task, time_limit_s=setting.time_limit_s, label=label, total=len(rows))
        blob = store.put_blob_file(Path(task.output))
    evidence = _evidence(examined, outcome, blob, Subject(data.name, inputs), len(rows))
    store.set_step(key, store.put_evidence(evidence))
    found = _kept(evidence, store)
    if found is None:
        raise StoreError("features vanished from the store", where=str(store.root))
    return msgspec.structs.replace(found, is_cached=False)


def export_network(examined: Examined, target: Path, setting: Setting) -> ImagePreprocessing:
    """Write an image candidate, up to the features that are compared, as a program that needs none of its code.

    Args:
        target: `.pt2` file to write.
    Returns:
        how its pictures are prepared.
    Raises:
        Unsupported, PermitRefused, Damaged, …: as the candidate's process reports.
        CandidateFailed: it crashed, or took longer than the time limit.
    """
    task = _task(examined, setting, inputs=None, output=target)
    label = f"exporting: {examined.subject.name}"
    outcome = run_candidate(task, time_limit_s=setting.time_limit_s, label=label, total=0)
    if outcome.pictures is None:
        raise CandidateFailed("it did not say how pictures are prepared", where=examined.candidate.ref)
    return outcome.pictures


def _key(examined: Examined, inputs: Digest, setting: Setting) -> Digest:
    candidate = examined.candidate
    code = _module_file(candidate.factory.removeprefix("py:"), setting) if candidate.factory else None
    return step_key(
        "features",
        version=FEATURES_VERSION,
        subjects=[examined.subject],
        materials=[Subject("inputs", inputs), *([Subject("factory", digest_bytes(code))] if code else [])],
        parameters={"runtime": candidate.runtime, "factory": candidate.factory, "tap": candidate.tap},
        runtimes=_versions(),
    )


def _versions() -> dict[str, str]:
    from importlib.metadata import PackageNotFoundError, version

    found = {}
    for name in _RUNTIME_PACKAGES:
        with contextlib.suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def _kept(evidence: Evidence, store: Store) -> Features | None:
    """What was kept, after its bytes were hashed again; None when the blob is gone or changed."""
    from safetensors import SafetensorError
    from safetensors.numpy import load

    path = store.blob_path(evidence.artifacts[0].sha256)
    if path is None:
        return None
    content = path.read_bytes()
    if digest_bytes(content) != evidence.artifacts[0].sha256:
        return None
    try:
        vectors = load(content)["features"]
    except (SafetensorError, KeyError, ValueError):
        return None
    said = evidence.parameters
    cost = next(one.value for one in evidence.measurements if one.name == "feature_time")
    words = (str(said["preprocessing"]), str(said["runtime"]), str(said["precision"]))
    return Features(vectors, *words, float(cost or 0), True)


def _evidence(examined: Examined, outcome: Extracted, blob: Digest, inputs: Subject, rows: int) -> Evidence:
    parameters = {"preprocessing": outcome.preprocessing, "runtime": outcome.runtime, "precision": outcome.precision}
    draft = Draft("features", parameters={**parameters, "reference": examined.candidate.ref})
    draft.subject.append(examined.subject)
    draft.materials.append(inputs)
    draft.artifacts.append(Artifact("features", blob, _MEDIA_TYPE))
    draft.measure("feature_time", round(1000 * outcome.seconds / rows, 6), "ms", n=rows)
    draft.measure("load_time", round(1000 * outcome.load_seconds, 3), "ms", n=1)
    return draft.finish(outcome="computed", summary=f"features of {rows} rows by {examined.subject.name}")


def _inputs(data: LabelledData, rows: NDArray[np.int64], folder: Path) -> Path:
    if data.images is None:
        path = folder / "inputs.json"
        path.write_bytes(msgspec.json.encode([data.texts[i] for i in rows]))
        return path
    path = folder / "inputs.safetensors"
    _save_file()({"images": data.images[rows]}, path)
    return path


def _task(examined: Examined, setting: Setting, *, inputs: Path | None, output: Path) -> ExtractionTask:
    candidate = examined.candidate
    return ExtractionTask(
        ref=candidate.ref,
        inputs=str(inputs) if inputs is not None else None,
        output=str(output),
        runtime=candidate.runtime,
        factory=candidate.factory,
        tap=candidate.tap,
        permit=examined.permit,
        code_loader=code_loader_of(setting.permit),
        threads=setting.threads,
        search_path=setting.search_path,
        store=str(setting.store.root),
        offline=setting.offline,
    )


def _save_file() -> Callable[..., None]:
    try:
        from safetensors.numpy import save_file
    except ImportError as error:
        raise MissingExtra("safetensors", extra="adapt") from error
    return save_file
