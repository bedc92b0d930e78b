"""fidelity: is it the architecture that its name says? Both sides opened, their layers listed and compared."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from regraft.compare.layer_table import LayerTable, layer_table
from regraft.conceptual.architectures import (
    MAX_EXTENT,
    Architecture,
    architecture,
    architecture_from_file,
    architectures,
)
from regraft.conceptual.fidelity import judge_fidelity
from regraft.deployment.loading import AnyModel, LoadRequest, Opened, opened
from regraft.deployment.trial import accepted_feeds
from regraft.errors import BadFeeds, ReferenceSyntaxError, RegraftError, Unsupported, UsageError
from regraft.record.digest import digest_bytes
from regraft.record.evidence import Draft, Evidence, Finding, Severity, Subject
from regraft.runtime.tokenizing import json_beside
from regraft.runtime.verified import VerifiedFiles
from regraft.workflow.bench import permit_by_scan

if TYPE_CHECKING:
    from regraft.record.store import Store
    from regraft.runtime.interface import Feeds, Model

_PREPARATIONS = ("preprocessor_config.json", "config.json")
_CHANNELS = (1, 3, 4)
"""Of pictures: grey, colours, colours and transparency."""
_SIZES = ("crop_size", "size", "image_size", "input_size")


def fidelity(
    ref: AnyModel,
    against: str | Path,
    *,
    store: Store | None = None,
    runtime: str | None = None,
    factory: str | None = None,
    against_factory: str | None = None,
    offline: bool = False,
) -> Evidence:
    """Compare the layers of a network with those of the architecture that it is said to be.

    Args:
        ref: the network: a reference, an open package, or a loaded model of torch, ONNX Runtime or JAX.
        against: name of a published architecture (`ResNet-50`), a specification (`.toml`), or a reference to another
            implementation.
        store: where packages and scans are looked up.
        runtime: that loads the network.
        factory, against_factory: `module:factory` that builds a network for weights without an architecture.
        offline: no network.
    Returns:
        evidence of kind `fidelity`: faithful passes; unfaithful fails, and says which layer is another one; undecided
        is inconclusive.
    Raises:
        UsageError: nothing is known under that name; lists what is.
        Damaged: the specification is none. And what opening a package raises.
    """
    request = LoadRequest(runtime=runtime, factory=factory, store=store, offline=offline, permit=permit_by_scan(store))
    told = {"against": str(against), "runtime": runtime, "factory": factory, "against_factory": against_factory}
    draft = Draft("fidelity", parameters={**told})
    with opened(ref, request) as ours:
        draft.subject += ours.subjects
        try:
            spec = _specification(against, msgspec.structs.replace(request, factory=against_factory), draft)
            model = _loaded(ours)
            table, side = _listed(ours, model, spec.fed or spec.input)
        except Unsupported as error:
            message = f"the layers cannot be listed: {error.what}"
            draft.find(Finding("fidelity.cannot_list", Severity.UNKNOWN, message, fix=error.hint or None))
            return draft.finish(outcome="undecided", summary=message)
        return judge_fidelity(draft, table, spec, side)


def _specification(against: str | Path, request: LoadRequest, draft: Draft) -> Architecture:
    """What it should be: by name, from a file, or from another network."""
    known = architecture(str(against))
    if known is not None:
        draft.materials.append(Subject(f"{known.name}, {known.source}", digest_bytes(repr(known.layers).encode())))
        return known
    path = Path(against)
    if path.suffix == ".toml":
        spec = architecture_from_file(path)
        assert spec.digest is not None
        draft.materials.append(Subject(path.name, spec.digest))
        return spec
    try:
        with opened(str(against), request) as theirs:
            draft.materials += theirs.subjects
            table, side = _listed(theirs, _loaded(theirs), ())
    except (ReferenceSyntaxError, UsageError) as error:
        raise _unknown(against) from error
    except RegraftError as error:
        if not path.exists() and "://" not in str(against) and not str(against).startswith("py:"):
            raise _unknown(against) from error
        raise
    if not table.layers:
        raise Unsupported("the other implementation has no layers with weights", where=str(against))
    fed = _channels_first(next(iter(table.inputs.values()), ())[1:])
    return Architecture(
        str(against),
        "another implementation",
        table.layers,
        (fed[0], *side) if side else (),  # what was made up to run it is no size that it was made for
        table.parameters,
        table.multiply_adds,
        fed,
    )


def _channels_first(sample: tuple[int, ...]) -> tuple[int, ...]:
    """Extents of a picture as `Architecture` has them; others as they are."""
    return (sample[-1], *sample[:-1]) if _is_channels_last(sample) else sample


def _is_channels_last(sample: tuple[int | str | None, ...]) -> bool:
    return len(sample) == 3 and sample[-1] in _CHANNELS and sample[0] not in _CHANNELS


def _unknown(against: str | Path) -> UsageError:
    names = ", ".join(known.name for known in architectures())
    return UsageError(
        f"nothing is known of an architecture {str(against)!r}",
        hint=f"name one of {names}; or a specification (.toml), or a reference to another implementation",
    )


def _loaded(found: Opened) -> Model:
    if found.model is None:
        raise (
            found.error
            if isinstance(found.error, Unsupported)
            else Unsupported(found.error.what if found.error is not None else "it cannot be loaded", where=found.path)
        )
    return found.model


def _listed(found: Opened, model: Model, wanted: tuple[int, ...]) -> tuple[LayerTable, tuple[int, ...]]:
    """The layers at the size that the specification names, where the network takes it; and the side of its pictures."""
    side = _fixed_side(model) or _prepared_side(found)
    for feeds in _feeds(found, model, wanted):
        try:
            model(feeds)
        except (Unsupported, BadFeeds):
            continue
        return layer_table(model, feeds), side
    raise Unsupported("it takes none of the inputs that were tried", where=model.where)


def _feeds(found: Opened, model: Model, wanted: tuple[int, ...]) -> Iterator[Feeds]:
    """One sample of the published size first, then what is made up from the signature."""
    import numpy as np

    ports = model.signature.inputs
    if wanted and len(ports) == 1 and len(ports[0].shape or ()) == len(wanted) + 1:
        shape = ports[0].shape or ()
        is_last = len(shape) > 2 and shape[-1] == wanted[0] and shape[1] != wanted[0]
        extents = (*wanted[1:], wanted[0]) if is_last else wanted
        yield {ports[0].name: np.random.default_rng(0).normal(size=(1, *extents)).astype(ports[0].dtype)}
    cases, _ = accepted_feeds(found, model, None, inputs={port.name: port.name for port in ports}, seed=0)
    one = [case.feeds for case in cases if all(value.shape[:1] == (1,) for value in case.feeds.values())]
    yield from one or [case.feeds for case in cases]


def _fixed_side(model: Model) -> tuple[int, ...]:
    """Height and width that the graph itself fixes; empty where it takes any."""
    for port in model.signature.inputs:
        shape = port.shape or ()
        if len(shape) == 4:
            places = shape[1:3] if _is_channels_last(shape[1:]) else shape[2:]
            if all(isinstance(extent, int) for extent in places):
                return tuple(int(extent) for extent in places if extent is not None)
    return ()


def _prepared_side(found: Opened) -> tuple[int, ...]:
    """Height and width to which the package says that pictures are brought."""
    if found.package is None:
        return ()
    files = VerifiedFiles(found.package, found.permit)
    for name in _PREPARATIONS:
        fields = json_beside(files, found.path, name)
        for key in _SIZES if isinstance(fields, Mapping) else ():
            side = _side(fields.get(key))
            if side:
                return side
    return ()


def _side(told: object) -> tuple[int, ...]:
    """Height and width in one of the forms that packages write; empty for what is no size."""
    if isinstance(told, Mapping):
        found = [told.get("height"), told.get("width")]
    elif isinstance(told, list):
        found = told[-2:] if len(told) in (2, 3) else []
    else:
        found = [told, told]
    side = [extent for extent in found if type(extent) is int and 0 < extent <= MAX_EXTENT]  # True is no extent
    return tuple(side) if len(side) == 2 else ()
