"""From a plan to steps: the one place that knows which verb is called how.

| step | function | about | wants |
|---|---|---|---|
| fetch, inspect, scan | package.fetch, workflow.inspect, trust.scan | each candidate | fetch before the others |
| data | package.fetch | the data | |
| select | workflow.select | all candidates that were fetched and scanned, and are not dangerous | data |
| adapt | workflow.adapt | the candidate that select chose | select |
| convert | workflow.convert | the adapted package, for each target | adapt |
| verify | workflow.verify | the converted against the adapted package, on held-out texts too | convert, data |
| bench | workflow.bench | all converted packages, interleaved | convert |
| inspect, scan | as above | each converted package | convert |
| check | trust.check | each converted package, by the policy | all of the above, over |
| reproduce | workflow.reproduce | each claim | |
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec

from regraft.adaptation.features import TIME_LIMIT_S
from regraft.package.reference import ModelRef
from regraft.package.sources import source_of
from regraft.package.sources.interface import RemoteSource
from regraft.record.evidence import Evidence
from regraft.workflow.engine.interface import Resources
from regraft.workflow.memory import memory_bound
from regraft.workflow.plan import Candidate, Plan, PlannedData, Target
from regraft.workflow.plan_arguments import (
    DATA_STEP,
    budget_arguments,
    constraints_argument,
    data_argument,
    held_out_argument,
    policy_argument,
)
from regraft.workflow.steps import (
    Argument,
    Chosen,
    Fields,
    File,
    Given,
    Guarded,
    Named,
    Out,
    Product,
    Setting,
    Several,
    Step,
    StoreHere,
)

FETCH = "regraft.package.fetch:fetch"
INSPECT = "regraft.workflow.inspect:inspect"
SCAN = "regraft.trust.scan:scan"
SELECT = "regraft.workflow.select:select"
ADAPT = "regraft.workflow.adapt:adapt"
CONVERT = "regraft.workflow.convert:convert"
VERIFY = "regraft.workflow.verify:verify"
BENCH = "regraft.workflow.bench:bench_each"
CHECK = "regraft.trust.check:check"
REPRODUCE = "regraft.workflow.reproduce:reproduce"

_INSPECTION = 2
"""Version of what inspect finds out: 2 reads `regraft.json`."""
_FORMATS = {Target.ONNXRUNTIME: "onnx", Target.OPENVINO: "openvino"}
"""What `convert` is asked for, for a target."""
_LEARNING = ("torch", "transformers", "scikit-learn", "numpy")
_CONVERTING = ("torch", "transformers", "onnx", "onnxscript", "onnxruntime", "openvino")
_DEFAULT_TIME_S = 3600.0


def derive_steps(plan: Plan, *, offline: bool = False) -> list[Step]:
    """The steps that a plan amounts to, in order of dependence."""
    return [*_Derivation(plan, offline=offline).steps()]


def chosen_candidate(evidence: Evidence) -> str | None:
    """The name of the candidate that `select` chose, None when it chose none."""
    chosen = (finding.data.get("chosen") for finding in evidence.findings)
    return next((name for name in chosen if isinstance(name, str)), None)


class _Derivation:
    """The steps of one plan."""

    def __init__(self, plan: Plan, *, offline: bool) -> None:
        self._plan = plan
        self._offline = offline
        self._light = self._resources(cores=1)
        self._heavy = self._resources(cores=0)

    def steps(self) -> Iterator[Step]:
        plan = self._plan
        for candidate in plan.candidates:
            if candidate.ref.scheme != "py":  # code of the user's own has no files to look at
                yield from self._looked_at(candidate)
        if plan.candidates and plan.data is not None:
            yield self._fetch(DATA_STEP, plan.data.ref, weighs=True)
            yield self._select(plan.data)
            yield self._adapt(plan.data)
            for target in plan.targets:
                yield self._convert(target)
                yield self._verify(target, plan.data)
            yield self._bench()
            for target in plan.targets:
                yield from self._judged(target)
        for claim in plan.claims:
            yield self._reproduce(claim)

    def _looked_at(self, candidate: Candidate) -> Iterator[Step]:
        name, ref = candidate.name, candidate.ref
        fetch = self._fetch(f"fetch {name}", ref, about=name)
        yield fetch
        shared: dict[str, Argument] = {
            "ref": Named(ref, fetch.name),
            "store": StoreHere(),
            "offline": Setting(ref.scheme not in ("path", "trace")),
        }
        common = {"subject": "ref", "needs": (fetch.name,), "weighs": False, "about": name, "resources": self._light}
        yield Step(
            name=f"inspect {name}",
            verb="inspect",
            function=INSPECT,
            version=_INSPECTION,
            arguments=shared | {"compute_digest": Given(True)},
            **common,  # type: ignore[arg-type]
        )
        yield Step(name=f"scan {name}", verb="scan", function=SCAN, arguments=shared, **common)  # type: ignore[arg-type]

    def _fetch(self, name: str, ref: ModelRef, *, about: str = "", weighs: bool = False) -> Step:
        return Step(
            name=name,
            verb="fetch",
            function=FETCH,
            arguments={"ref": Given(str(ref)), "store": StoreHere(), "offline": Setting(self._offline)},
            is_volatile=not _is_exact(ref),
            weighs=weighs,
            about=about or name,
            resources=self._light,
        )

    def _select(self, data: PlannedData) -> Step:
        plan = self._plan
        candidate_time_s = plan.limits.time_s or TIME_LIMIT_S
        arguments: dict[str, Argument] = {
            "candidates": Several(tuple(self._candidate(one) for one in plan.candidates), what="candidates"),
            "data": data_argument(data),
            "seed": Given(plan.seed),
            "threads": Given(plan.threads),
            "time_limit_s": Given(candidate_time_s),
            "search_path": self._search_path(),
        }
        if plan.policy is not None:
            arguments["policy"] = constraints_argument(plan)
        return Step(
            name="select",
            verb="select",
            function=SELECT,
            arguments={**arguments, **budget_arguments(plan), **self._surroundings()},
            seed=plan.seed,
            runtimes=_LEARNING,
            watches=self._own_code(),
            is_volatile=self._has_unwatched_code(),
            # A candidate that hangs uses up its own time, and leaves the others and what follows theirs.
            resources=msgspec.structs.replace(self._heavy, time_s=candidate_time_s * (len(plan.candidates) + 1)),
        )

    def _candidate(self, candidate: Candidate) -> Guarded:
        fields: dict[str, Argument] = {
            "name": Given(candidate.name),
            "ref": self._ref(candidate),
            "runtime": Given(candidate.runtime),
            "factory": Given(candidate.factory),
            "tap": Given(candidate.tap),
        }
        if candidate.ref.scheme == "py":
            return Guarded(Fields(fields))
        return Guarded(Fields(fields), needs=(f"fetch {candidate.name}", f"scan {candidate.name}"))

    def _ref(self, candidate: Candidate) -> Argument:
        if candidate.ref.scheme == "py":
            return Given(str(candidate.ref))
        return Named(candidate.ref, f"fetch {candidate.name}")

    def _adapt(self, data: PlannedData) -> Step:
        plan = self._plan
        refs = {one.name: self._ref(one) for one in plan.candidates}
        runtimes: dict[str, Argument] = {one.name: Given(one.runtime) for one in plan.candidates}
        factories: dict[str, Argument] = {one.name: Given(one.factory) for one in plan.candidates}
        taps: dict[str, Argument] = {one.name: Given(one.tap) for one in plan.candidates}
        return Step(
            name="adapt",
            verb="adapt",
            function=ADAPT,
            arguments={
                "ref": Chosen("select", refs, chosen_candidate),
                "data": data_argument(data),
                "mode": Given(plan.adaptation.value),
                "runtime": Chosen("select", runtimes, chosen_candidate),
                "factory": Chosen("select", factories, chosen_candidate),
                "tap": Chosen("select", taps, chosen_candidate),
                "seed": Given(plan.seed),
                "threads": Given(plan.threads),
                "search_path": self._search_path(),
                "out": Out(_file_name(plan.name)),
                **self._surroundings(),
            },
            subject="ref",
            seed=plan.seed,
            runtimes=_LEARNING,
            watches=self._own_code(),
            is_volatile=self._has_unwatched_code(),
            resources=self._heavy,
        )

    def _convert(self, target: Target) -> Step:
        return Step(
            name=f"convert {target}",
            verb="convert",
            function=CONVERT,
            arguments={
                "ref": Product("adapt"),
                "to": Given(_FORMATS[target]),
                "seed": Given(self._plan.seed),
                "threads": Given(self._plan.threads),
                "out": Out(f"{_file_name(self._plan.name)}-{_FORMATS[target]}"),
                **self._surroundings(),
            },
            subject="ref",
            runtimes=_CONVERTING,
            about=target.value,
            resources=self._heavy,
        )

    def _verify(self, target: Target, data: PlannedData) -> Step:
        adapted = Product("adapt")
        return Step(
            name=f"verify {target}",
            verb="verify",
            function=VERIFY,
            arguments={
                "reference": adapted,
                "candidate": Product(f"convert {target}"),
                "feeds": held_out_argument(self._plan, data, adapted, offline=self._offline),
                "seed": Given(self._plan.seed),
                "threads": Given(self._plan.threads),
                **self._surroundings(),
            },
            subject="candidate",
            seed=self._plan.seed,
            runtimes=_CONVERTING,
            about=target.value,
            resources=self._heavy,
        )

    def _bench(self) -> Step:
        plan = self._plan
        converted = tuple(Guarded(Product(f"convert {target}"), (f"convert {target}",)) for target in plan.targets)
        arguments: dict[str, Argument] = {
            "refs": Several(converted, what="converted packages"),
            "threads": Given(plan.threads),
            "seed": Given(plan.seed),
            "compare": Given(False),  # verify does it, target by target
        }
        return Step(
            name="bench",
            verb="bench",
            function=BENCH,
            arguments={**arguments, **budget_arguments(plan), **self._surroundings()},
            seed=plan.seed,
            runtimes=_CONVERTING,
            is_of_machine=True,
            resources=self._heavy,
        )

    def _judged(self, target: Target) -> Iterator[Step]:
        """What a policy may ask about a converted package, and its judgement."""
        made = f"convert {target}"
        arguments: dict[str, Argument] = {"ref": Product(made), "store": StoreHere()}
        shared = {"subject": "ref", "about": target.value, "resources": self._light}
        yield Step(
            name=f"inspect {target}",
            verb="inspect",
            function=INSPECT,
            version=_INSPECTION,
            arguments=arguments | {"compute_digest": Given(True)},
            weighs=False,
            **shared,  # type: ignore[arg-type]
        )
        yield Step(name=f"scan {target}", verb="scan", function=SCAN, arguments=arguments, **shared)  # type: ignore[arg-type]
        if self._plan.policy is not None:
            yield Step(
                name=f"check {target}",
                verb="check",
                function=CHECK,
                arguments={"package": Product(made), "policy": policy_argument(self._plan), "store": StoreHere()},
                subject="package",
                after=("adapt", f"verify {target}", "bench", f"inspect {target}", f"scan {target}"),
                about=target.value,
                resources=self._light,
            )

    def _reproduce(self, claim: Path) -> Step:
        return Step(
            name=f"reproduce {claim.stem}",
            verb="reproduce",
            function=REPRODUCE,
            arguments={"claim": File(claim), "seed": Given(self._plan.seed), **self._surroundings()},
            seed=self._plan.seed,
            runtimes=_LEARNING,
            about=claim.stem,
            resources=self._heavy,
        )

    def _surroundings(self) -> dict[str, Argument]:
        return {"store": StoreHere(), "offline": Setting(self._offline)}

    def _search_path(self) -> Argument:
        """Where processes that verbs start look for the user's own modules; what these hold is watched."""
        return Setting([str(self._plan.folder.absolute())])

    def _resources(self, *, cores: int) -> Resources:
        limits = self._plan.limits
        return Resources(
            cores=cores,
            memory_bytes=limits.memory_bytes or memory_bound(),
            time_s=limits.time_s or _DEFAULT_TIME_S,
        )

    def _own_code(self) -> tuple[Path, ...]:
        """Files of the user's own modules that the plan names and that lie beside it."""
        files: set[Path] = set()
        for module in self._modules():
            root = self._plan.folder / module.partition(".")[0]
            files.update([root.with_suffix(".py")] if root.with_suffix(".py").is_file() else root.rglob("*.py"))
        return tuple(sorted(files))

    def _has_unwatched_code(self) -> bool:
        """Whether a module of the user's own lies elsewhere, so that nobody notices when it changes."""
        folder = self._plan.folder
        tops = {module.partition(".")[0] for module in self._modules()}
        return any(not (folder / f"{top}.py").is_file() and not (folder / top).is_dir() for top in tops)

    def _modules(self) -> Iterator[str]:
        for candidate in self._plan.candidates:
            if candidate.factory is not None:
                yield candidate.factory.partition(":")[0]
            if candidate.ref.scheme == "py":
                yield candidate.ref.location.partition(":")[0]


def _is_exact(ref: ModelRef) -> bool:
    """Whether a reference can mean one content only: what lies on a disk can change."""
    source = source_of(ref)
    return isinstance(source, RemoteSource) and source.is_exact(ref)


def _file_name(text: str) -> str:
    return "".join(letter if letter.isalnum() or letter in "._-" else "-" for letter in text).strip(".-") or "model"
