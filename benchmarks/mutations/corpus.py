"""All mutants: where each kind of fault was planted, and what it does. Made once, kept on the disk, repeatable."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from hashlib import sha256
from multiprocessing import get_context
from pathlib import Path

import msgspec
import numpy as np
import onnx
from benchmarks.mutations.architectures import MEMBERS, members, reference
from benchmarks.mutations.architectures.exported import CACHE
from benchmarks.mutations.effects import Unfit, effect, example
from benchmarks.mutations.faults import KINDS
from benchmarks.mutations.faults.interface import Kind
from benchmarks.mutations.graph import Graph
from benchmarks.mutations.interface import Effect, Fault, Mutant, Reference

PLACES, PLACES_OF_LARGE, LARGE_BYTES = 3, 1, 5_000_000
"""Mutants of one kind in one network; fewer in networks with published weights, which take a second each."""

_TRIES = 80
_PAIRS = 4
"""Mutants with two faults, for each network."""


class Entry(msgspec.Struct, frozen=True):
    """One mutant in short.

    Attributes:
        reference: name of the network.
        steps: kind of fault and name of the node, one pair for each fault.
        effect: what the mutant does.
    """

    reference: str
    steps: tuple[tuple[str, str], ...]
    effect: Effect

    @property
    def name(self) -> str:
        """Unique among all entries."""
        return "/".join([self.reference, "+".join(f"{kind}@{node.replace('/', '.')}" for kind, node in self.steps)])


def entries(*, seed: int = 0, processes: int = 2) -> list[Entry]:
    """Every mutant in short, from the disk if nothing of this folder has changed since; else some ten minutes."""
    path = CACHE / f"corpus-{seed}-{_code()[:16]}.json"
    if not path.exists():
        for member in MEMBERS:
            members(member)  # exported here once, not by each process
        context = get_context("spawn")
        with ProcessPoolExecutor(processes, mp_context=context) as pool:
            jobs = [pool.submit(planted_in, found.name, seed=seed) for member in MEMBERS for found in members(member)]
            made = [entry for job in jobs for entry in job.result()]
        path.with_suffix(".partial").write_bytes(msgspec.json.format(msgspec.json.encode(made)))
        path.with_suffix(".partial").replace(path)
    return msgspec.json.decode(path.read_bytes(), type=list[Entry])


def mutants(*, seed: int = 0, references: tuple[str, ...] = (), labels: tuple[str, ...] = ()) -> Iterator[Mutant]:
    """The mutants one after the other.

    Args:
        seed: of the places.
        references: names of networks; empty for all.
        labels: of the effect; empty for all.
    """
    for entry in entries(seed=seed):
        if (not references or entry.reference in references) and (not labels or entry.effect.label in labels):
            yield mutant(entry)


def mutant(entry: Entry) -> Mutant:
    """The mutant that an entry stands for."""
    planted = plant(reference(entry.reference), *entry.steps)
    if planted is None:
        raise RuntimeError(f"{entry.name} cannot be planted any more: the corpus on the disk is stale")
    return Mutant(entry.name, entry.reference, *planted, entry.effect)


def plant(into: Reference, *steps: tuple[str, str]) -> tuple[onnx.ModelProto, tuple[Fault, ...]] | None:
    """Plant faults one after the other; None where one of them cannot be made."""
    proto = onnx.ModelProto()
    proto.CopyFrom(into.proto)
    faults = []
    for kind, node in steps:
        graph = Graph(proto, example(into.name))
        if not graph.has_node(node):
            return None
        fault = _planted(graph, KINDS[kind], node)
        if fault is None:
            return None
        faults.append(fault)
    return proto, tuple(faults)


def _planted(graph: Graph, kind: Kind, name: str) -> Fault | None:
    node = graph.node(name)
    enclosing = graph.enclosing(node)
    readers = graph.readers(node) if graph.is_constant(node) else ()
    done = kind.plant(graph, node)
    if done is None:
        return None
    candidate = ((name,) if graph.has_node(name) else ()) + tuple(graph.made)
    return Fault(
        kind.name, kind.cause, (done.origin or (name,)) + readers, kind.also, enclosing, candidate, done.equivalent
    )


def planted_in(name: str, *, seed: int = 0, places: int | None = None, kinds: tuple[str, ...] = ()) -> list[Entry]:
    """All mutants of one network, found anew: singles, then pairs of those.

    Args:
        name: of the network.
        seed: of the places.
        places: for each kind; None for 3, or 1 in a large network.
        kinds: names of kinds; empty for all, and only then there are pairs.
    """
    found = reference(name)
    wanted = places or (PLACES if found.proto.ByteSize() < LARGE_BYTES else PLACES_OF_LARGE)
    chosen = [KINDS[kind] for kind in kinds] or list(KINDS.values())
    singles = [entry for kind in chosen for entry in _of_kind(found, kind, seed, wanted)]
    return singles if kinds else singles + _pairs(found, singles, seed)


def _of_kind(into: Reference, kind: Kind, seed: int, places: int) -> list[Entry]:
    graph = Graph(into.proto, {})
    nodes = [node.name for node in graph.nodes() if not kind.operators or node.op_type in kind.operators]
    made: list[Entry] = []
    for node in _order(nodes, places, seed, into.name + kind.name)[:_TRIES]:
        entry = _entry(into, (kind.name, node))
        if entry is not None:
            made.append(entry)
        if len(made) == places:
            break
    return made


def _order(nodes: list[str], places: int, seed: int, salt: str) -> list[str]:
    """The first, the last and the middle one (when only one is wanted, any), then the others as they fall."""
    random = np.random.default_rng([seed, zlib.crc32(salt.encode())])
    shuffled = [nodes[i] for i in random.permutation(len(nodes))]
    if places == 1 or len(nodes) < 3:
        return shuffled
    chosen = [nodes[0], nodes[-1], nodes[len(nodes) // 2]]
    return chosen + [node for node in shuffled if node not in chosen]


def _entry(into: Reference, *steps: tuple[str, str]) -> Entry | None:
    planted = plant(into, *steps)
    if planted is None:
        return None
    proto, faults = planted
    try:
        done = effect(into, proto, is_equivalent=all(fault.equivalent for fault in faults))
    except Unfit:
        return None
    return Entry(into.name, steps, done)


def _pairs(into: Reference, singles: list[Entry], seed: int) -> list[Entry]:
    """Mutants with two visible faults at different nodes, of different kinds."""
    random = np.random.default_rng([seed, zlib.crc32(into.name.encode())])
    visible = [entry.steps[0] for entry in singles if entry.effect.label == "visible"]
    wanted = _PAIRS if into.proto.ByteSize() < LARGE_BYTES else _PAIRS // 2
    made: list[Entry] = []
    for _ in range(_TRIES):
        first, second = (visible[i] for i in random.choice(len(visible), 2, replace=False))
        if first[1] == second[1] or first[0] == second[0]:
            continue
        entry = _entry(into, first, second)
        if entry is not None and entry.effect.label == "visible":
            made.append(entry)
        if len(made) == wanted:
            break
    return made


_DECISIVE = ("architectures/*.py", "faults/*.py", "graph.py", "sketch.py", "corpus.py", "effects.py", "running.py")


def _code() -> str:
    """Digest of all that decides what the corpus is."""
    files = sorted(path for pattern in _DECISIVE for path in Path(__file__).parent.glob(pattern))
    return sha256(b"".join(path.read_bytes() for path in files)).hexdigest()
