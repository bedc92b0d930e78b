"""Weight maps between implementations: how many tensors each rule maps rightly, at what cost.

usage: porting.py [--ports NAME…] [--packages]; the latter maps MTCNN of three packages, read from REGRAFT_TEST_ASSETS.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.ports import PORTS, Port

from regraft.compare.deviation import deviation
from regraft.compare.weight_map import map_weights
from regraft.runtime.feeding import feeds_for
from regraft.runtime.graphs import operator_graph
from regraft.runtime.jax_model import jax_model
from regraft.runtime.keras_model import KerasModel
from regraft.runtime.named_weights import weight_values, with_weights
from regraft.runtime.torch_factory import torch_model

Arrays = Mapping[str, np.ndarray]
ATOL = 1e-4
"""PaDiff's default: two tensors that are further apart are called different."""


class Result(NamedTuple):
    """One port.

    Attributes:
        name, frameworks: of the two networks.
        total: tensors of the candidate.
        right: rule → tensors that are exactly what they are by hand, or in the candidate's own package.
        proven: tensors that the map calls proven.
        evaluations, operators: what the proof ran.
        cpu_s: of mapping, both networks traced.
        floors: largest error of the port with mapped weights, in errors of the reference's own float32 run.
        differs: its largest error at the output is beyond `ATOL`.
    """

    name: str
    frameworks: str
    total: int
    right: dict[str, int]
    proven: int
    evaluations: int
    operators: int
    cpu_s: float
    floors: float
    differs: bool


def models(port: Port) -> tuple[Any, Any]:
    """The reference, and the candidate with random weights."""
    reference = torch_model(*port.reference(), where=port.name)
    network, examples = port.candidate()
    if "Keras" in port.frameworks:
        return reference, KerasModel(network, where=f"{port.name} port")
    return reference, jax_model(network, examples, where=f"{port.name} port")


def measured(port: Port) -> Result:
    """Map one port and compare with what was written by hand."""
    reference, candidate = models(port)

    def truth(values: Arrays, names: list[str]) -> dict[str, np.ndarray]:
        return by_path(port.truth(values), names)

    return compared(port.name, port.frameworks, reference, candidate, port.feeds, truth=truth)


def packages() -> Iterator[Result]:
    """MTCNN: every network of every package as the reference of the others, whose published numbers must come out."""
    from benchmarks.ports import mtcnn

    for net, layout in mtcnn.LAYOUTS.items():
        side = layout.side
        feeds = {"x": np.random.default_rng(0).normal(size=(3, 3, side, side)).astype(np.float32)}
        models = {package: mtcnn.published(package, net) for package in ("facenet", "fdet", "keras")}
        held = {name: weight_values(model, operator_graph(model, feeds)) for name, model in models.items()}
        for ours, theirs in itertools.permutations(models, 2):
            name = f"{net}: {ours} → {theirs}"
            frameworks = " → ".join("Keras" if one == "keras" else "torch" for one in (ours, theirs))
            yield compared(
                name, frameworks, models[ours], models[theirs], feeds, truth=lambda *_, own=held[theirs]: own
            )


def compared(
    name: str,
    frameworks: str,
    reference: Any,
    candidate: Any,
    feeds: Arrays,
    *,
    truth: Callable[[Arrays, list[str]], Arrays],
) -> Result:
    """Map two networks and compare with the truth: weights of the reference, names of the candidate → its weights."""
    began = time.process_time()
    found = map_weights(reference, candidate, feeds, inputs={name: name for name in feeds})
    cpu_s = time.process_time() - began
    values = weight_values(reference, operator_graph(reference, feeds))
    wanted = truth(values, list(found.shapes))
    made = {"regraft": found.to_candidate(values)}
    made |= {name: rule(values, found.shapes) for name, rule in BASELINES.items()}
    right = {name: sum(_is_equal(own.get(key), value) for key, value in wanted.items()) for name, own in made.items()}
    exact = reference.cast("float64")
    answer = next(iter(exact(feeds_for(exact, feeds)).values()))
    own = next(iter(reference(feeds).values()))
    filled = with_weights(candidate, made["regraft"])
    theirs = next(iter(filled(feeds_for(filled, as_declared(candidate, feeds))).values()))
    error = deviation(theirs, answer)
    proven = sum(found.status_of(name) == "proven" for name in found.shapes)
    taken = found.statistics
    floors = error.rms / max(deviation(own, answer).rms, 2.0**-24 * error.scale_rms)
    spent = (taken.evaluations, taken.operators, cpu_s)
    return Result(name, frameworks, len(wanted), right, proven, *spent, floors, error.peak > ATOL)


def as_declared(model: Any, feeds: Arrays) -> dict[str, np.ndarray]:
    """Feeds in the dtypes of a model's inputs."""
    return {port.name: feeds[port.name].astype(port.dtype) for port in model.signature.inputs}


def by_path(truth: Arrays, paths: list[str]) -> dict[str, np.ndarray]:
    """What was written by hand under the names that the framework gives."""
    return {min((p for p in paths if p == k or p.endswith(f".{k}")), key=len): v for k, v in truth.items()}


def by_name(values: Arrays, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """The reference's weight whose name is nearest among those that fit when transposed."""
    import difflib

    found = {}
    for name, shape in shapes.items():
        fitting = [own for own, value in values.items() if value.size == int(np.prod(shape))]
        if fitting:
            ratio = lambda own, name=name: difflib.SequenceMatcher(None, own, name).ratio()  # noqa: E731
            found[name] = laid_out(values[max(fitting, key=ratio)], shape)
    return found


def by_shape(values: Arrays, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """Only where one weight alone has the extents, in any order."""
    found = {}
    for name, shape in shapes.items():
        fitting = [value for value in values.values() if sorted(value.shape) == sorted(shape)]
        alike = [one for one in shapes.values() if sorted(one) == sorted(shape)]
        if len(fitting) == len(alike) == 1:
            found[name] = laid_out(fitting[0], shape)
    return found


def by_order(values: Arrays, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """The next weight of as many elements, in the order of declaration."""
    waiting = list(values.values())
    found = {}
    for name, shape in shapes.items():
        place = next((i for i, value in enumerate(waiting) if value.size == int(np.prod(shape))), None)
        if place is not None:
            found[name] = laid_out(waiting.pop(place), shape)
    return found


def laid_out(value: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """As converters do it without looking at the operator: kernels are transposed, the rest is reshaped."""
    if value.ndim == 4 and value.shape != shape:
        value = value.transpose(2, 3, 1, 0)
    elif value.ndim == 2 and value.shape != shape:
        value = value.T
    return value.reshape(shape)


def _is_equal(own: np.ndarray | None, value: np.ndarray) -> bool:
    return own is not None and np.array_equal(own, value)


BASELINES: dict[str, Callable[[Arrays, Mapping[str, tuple[int, ...]]], dict[str, np.ndarray]]] = {
    "name": by_name, "shape": by_shape, "order": by_order,
}  # fmt: skip


def table(results: list[Result]) -> str:
    """As Markdown."""
    head = ["port", "frameworks", "tensors", "regraft", "proven", *BASELINES, "blocks run", "operators", "CPU s",
            "floors at the output", "accused at 1e-4"]  # fmt: skip
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    for one in results:
        counts = [one.right[name] for name in ("regraft",)] + [one.proven] + [one.right[name] for name in BASELINES]
        cells = [one.name, one.frameworks, one.total, *counts, one.evaluations, one.operators,
                 f"{one.cpu_s:.1f}", f"{one.floors:.2f}", "yes" if one.differs else "no"]  # fmt: skip
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ports", nargs="*", default=list(PORTS))
    parser.add_argument("--packages", action="store_true")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    results = []
    for one in packages() if options.packages else (measured(PORTS[name]) for name in options.ports):
        results.append(one)
        print(one, file=sys.stderr, flush=True)
    print(table(results))


if __name__ == "__main__":
    main()
