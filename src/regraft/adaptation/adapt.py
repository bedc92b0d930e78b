"""adapt: a candidate made mine: a head learnt on cached features, fused with its encoder into one package."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from regraft.adaptation.adaptation_evidence import record_adaptation, record_undecided
from regraft.adaptation.adapted_card import adapted_card
from regraft.adaptation.data import DataSpec, LabelledData, load_data
from regraft.adaptation.extraction import pictures_of
from regraft.adaptation.features import TIME_LIMIT_S, Candidate, Examined, Features, Setting, examine, extract
from regraft.adaptation.fusing import Head, write_image_encoder, write_rest, write_text_encoder
from regraft.adaptation.intervals import Interval, Paired, calibration_error, paired, wilson
from regraft.adaptation.probe import (
    chosen_strength,
    fit,
    linear_head,
    logistic_probe,
    predict,
    raw_baseline,
    raw_inputs,
    temperature,
)
from regraft.adaptation.splits import Split, split
from regraft.errors import Unsupported, UsageError
from regraft.package.package import Package, open_package
from regraft.package.product import new_package
from regraft.package.reference import ModelRef, parse_reference
from regraft.package.sources.interface import SourceOptions
from regraft.record.evidence import Draft, Evidence
from regraft.record.permit import Permit
from regraft.record.store import Store, open_store
from regraft.runtime import model_path
from regraft.runtime.classifier import TextClassifier, load_classifier
from regraft.runtime.permission import PermitSource, code_loader_of, leave_to_load
from regraft.runtime.pipeline import SCHEMA, Description
from regraft.version import __version__

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MODES = ("probe",)
_RELOADED_ROWS = 64


class Adaptation(msgspec.Struct, frozen=True):
    """What `adapt` made.

    Attributes:
        path: the new package; None where the data did not allow one.
    """

    evidence: Evidence
    path: Path | None


class Scores(msgspec.Struct, frozen=True):
    """How good head and baseline are on the held-out rows.

    Attributes:
        recalls: class name → share of its rows that were found.
        log_loss: mean, in nats.
        calibration: expected calibration error, 15 bins.
        strength: C of the ridge penalty that inner folds chose.
        temperature: what the logits were divided by, so that probabilities are calibrated.
    """

    accuracy: Interval
    baseline_name: str
    baseline: Interval
    gain: Paired
    recalls: dict[str, Interval]
    log_loss: float
    calibration: float
    strength: float
    temperature: float


class Reloaded(msgspec.Struct, frozen=True):
    """The written package, loaded again, beside head and cached features.

    Attributes:
        deviation: largest difference of a logit.
        scale: largest logit, in absolute value.
        changed: rows whose label differs.
        rows: that were compared.
    """

    deviation: float
    scale: float
    changed: int
    rows: int

    @property
    def is_equal(self) -> bool:
        """Within what another order of float32 sums over 10³ terms explains, and no label changed."""
        return self.changed == 0 and self.deviation <= 1e-4 * max(1.0, self.scale)


def adapt(
    ref: str | os.PathLike[str] | ModelRef,
    data: DataSpec | LabelledData | str | os.PathLike[str],
    *,
    out: str | os.PathLike[str],
    mode: str = "probe",
    runtime: str | None = None,
    factory: str | None = None,
    tap: str | None = None,
    store: Store | None = None,
    seed: int = 0,
    threads: int | None = None,
    time_limit_s: float = TIME_LIMIT_S,
    permit: PermitSource | None = None,
    search_path: Sequence[str] = (),
    offline: bool = False,
) -> Adaptation:
    """Learn a linear head on the features of an encoder and write both as one package that runs by itself.

    The head is logistic regression with a ridge penalty that inner folds choose; its probabilities are calibrated by
    one temperature on out-of-fold logits, and how well is measured on the held-out rows. Features come from the store
    when `select` has computed them.

    Args:
        ref: package of a text or image encoder, or `py:module:factory`, an image network of the user's own.
        data: where labelled rows are, or the rows.
        out: folder to make; it must not exist, or be empty.
        mode: `probe`.
        runtime, factory, tap, threads, time_limit_s, permit, search_path: as for a candidate of `select`. The package
            holds the network itself; it does not need the factory any more.
        store: of evidence and features; default: the user's.
        seed: of the split and the folds; the one of `select` gives the same rows.
    Returns:
        evidence of kind `adapt`; outcome `adapted`, `not_better` (a trivial baseline is not beaten beyond noise),
        `broken` (fail: what was written answers otherwise) or `undecided`.
    Raises:
        UsageError: no such mode, or something is at `out` already.
        Unsupported: the encoder cannot be written into a package of its own.
        RegraftError: package or data cannot be read or loaded.
    """
    draft = Draft("adapt")
    if mode not in MODES:
        raise UsageError(f"there is no mode {mode!r}", where="mode", hint=f"there is: {', '.join(MODES)}")
    store = store or open_store()
    setting = Setting(
        store=store,
        offline=offline,
        threads=threads,
        time_limit_s=time_limit_s,
        permit=permit,
        search_path=tuple(search_path),
    )
    text = str(ref) if isinstance(ref, ModelRef) else os.fspath(ref)
    candidate = Candidate(ref=text, runtime=runtime, factory=factory, tap=tap)
    labelled = data if isinstance(data, LabelledData) else load_data(data, store=store, offline=offline)
    examined = examine(candidate, setting)
    rows = split(labelled, seed=seed)
    parameters = {"mode": mode, "seed": seed, "reference": text, "data": labelled.spec.parameters()}
    parameters |= {"factory": factory, "tap": tap}
    if not labelled.is_enough:
        return Adaptation(record_undecided(draft, labelled, rows, examined, parameters), None)
    import numpy as np

    features = extract(examined, labelled, np.concatenate([rows.learn, rows.held_out]), setting)
    head, scores = _learnt(features, labelled, rows, seed=seed)
    target = Path(out)
    with new_package(target) as folder:
        _write(folder, examined, labelled, head, scores, setting, parameters)
        reloaded = _reloaded(folder, labelled, rows, head(features.vectors[len(rows.learn) :]), setting)
    evidence = record_adaptation(draft, target, labelled, rows, examined, features, scores, reloaded, parameters)
    return Adaptation(evidence, target)


def _learnt(features: Features, data: LabelledData, rows: Split, *, seed: int) -> tuple[Head, Scores]:
    count = len(rows.learn)
    learn, held_out = features.vectors[:count], features.vectors[count:]
    labels, truth = data.labels[rows.learn], data.labels[rows.held_out]
    probe = logistic_probe()
    strength = chosen_strength(probe, learn, labels, seed=seed)
    weight, bias = linear_head(fit(probe, learn, labels, strength), len(data.label_names))
    divisor = temperature(probe, learn, labels, strength, seed=seed)
    head = Head((weight / divisor).astype(weight.dtype), (bias / divisor).astype(bias.dtype))
    baseline, inputs = raw_baseline(data), raw_inputs(data)
    chosen = chosen_strength(baseline, inputs[rows.learn], labels, seed=seed)
    fitted = fit(baseline, inputs[rows.learn], labels, chosen)
    probabilities = _softmax(head(held_out))
    predicted = probabilities.argmax(axis=1)
    right = predicted == truth
    baseline_right = predict(fitted, inputs[rows.held_out]) == truth
    return head, Scores(
        wilson(int(right.sum()), len(right)),
        baseline.name,
        wilson(int(baseline_right.sum()), len(right)),
        paired(right, baseline_right),
        _recalls(right, truth, data.label_names),
        _log_loss(probabilities, truth),
        calibration_error(probabilities, right),
        strength,
        divisor,
    )


def _softmax(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    import numpy as np

    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    exponents = np.exp(shifted)
    result: NDArray[np.float64] = exponents / exponents.sum(axis=1, keepdims=True)
    return result


def _log_loss(probabilities: NDArray[np.float64], truth: NDArray[np.int64]) -> float:
    import numpy as np

    return float(-np.log(np.maximum(probabilities[np.arange(len(truth)), truth], 1e-300)).mean())


def _recalls(right: NDArray[np.bool_], truth: NDArray[np.int64], names: Sequence[str]) -> dict[str, Interval]:
    present = [(number, name) for number, name in enumerate(names) if (truth == number).any()]
    return {name: wilson(int(right[truth == number].sum()), int((truth == number).sum())) for number, name in present}


def _write(
    folder: Path,
    examined: Examined,
    data: LabelledData,
    head: Head,
    scores: Scores,
    setting: Setting,
    parameters: dict[str, Any],
) -> None:
    lineage = {
        "parent": {"name": examined.subject.name, "reference": _public(examined.candidate.ref)}
        | {"sha256": examined.subject.sha256},
        "data": [{"name": one.name, "sha256": one.sha256} for one in data.materials[:1]],
        "mode": parameters["mode"],
        "seed": parameters["seed"],
        "regraft": __version__,
    }
    with _opened(examined, setting) as package:
        preprocessing, picture_shape = None, ()
        if data.images is not None:
            stage, picture_shape = write_image_encoder(folder, examined, setting), data.images.shape[1:]
        elif package is not None:
            stage, preprocessing = write_text_encoder(folder, package, examined, code_loader_of(setting.permit))
        else:
            raise Unsupported("a network of the user's own code has no tokenizer", where=examined.candidate.ref)
        description = Description(SCHEMA, data.task, stage, data.label_names, preprocessing, picture_shape)
        licences = write_rest(folder, head, description, package, lineage=lineage)
    card = adapted_card(examined, data, scores, licences, reference=_public(examined.candidate.ref), name=data.name)
    (folder / "README.md").write_text(card, encoding="utf-8")
    for path in folder.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)


@contextmanager
def _opened(examined: Examined, setting: Setting) -> Iterator[Package | None]:
    """The encoder's package; None for code of the user's own."""
    if examined.candidate.ref.startswith("py:"):
        yield None
        return
    options = SourceOptions(offline=setting.offline, store=setting.store)
    with open_package(examined.candidate.ref, options=options) as package:
        yield package


def _public(ref: str) -> str:
    """The reference for strangers: a local path means nothing to them, and tells of the machine."""
    parsed = parse_reference(ref)
    return str(parsed) if parsed.scheme not in ("path", "trace") else parsed.name


def _reloaded(
    folder: Path, data: LabelledData, rows: Split, expected: NDArray[np.float32], setting: Setting
) -> Reloaded:
    """Load the written package anew and ask it about held-out rows."""
    import numpy as np

    some = rows.held_out[:_RELOADED_ROWS]
    with open_package(folder) as package:
        classifier = load_classifier(package, _permit(package, setting), code_loader=code_loader_of(setting.permit))
    if isinstance(classifier, TextClassifier):
        logits = classifier.logits([data.texts[i] for i in some])
    else:
        assert data.images is not None
        logits = classifier.logits(pictures_of(data.images[some]))
    wanted = expected[: len(some)]
    deviation = np.abs(logits - wanted)
    changed = int((logits.argmax(axis=1) != wanted.argmax(axis=1)).sum())
    return Reloaded(float(deviation.max()), float(np.abs(wanted).max()), changed, len(some))


def _permit(package: Package, setting: Setting) -> Permit | None:
    """Leave to load what was written: a program is a format whose loader could run code."""
    return leave_to_load(package, model_path(package), source=setting.permit, store=setting.store)
