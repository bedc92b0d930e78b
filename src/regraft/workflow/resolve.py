"""From a step to a call: arguments become values, and everything that shapes the result becomes the step's key."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterable, Mapping
from pathlib import Path

import msgspec

from regraft.errors import AccessDenied, NotFound
from regraft.record.digest import Digest, digest_file
from regraft.record.environment import capture_environment
from regraft.record.evidence import JSON, DigestKind, Subject, Verdict, combine
from regraft.record.steps import step_key
from regraft.workflow.engine import interface as engine
from regraft.workflow.state import Status, StepState
from regraft.workflow.steps import (
    Argument,
    Chosen,
    Fields,
    File,
    Found,
    Given,
    Made,
    Named,
    Out,
    Product,
    Setting,
    Several,
    Step,
    StoreHere,
)

_OUT = "\0out"
"""Stands for the path that a step writes to, which is not known before the key is."""


class Unmet(Exception):
    """A step makes no sense: what it wants is not there.

    Args:
        causes: the steps to blame.
    Attributes:
        verdict: what they amount to.
        is_consequence: each of them was skipped itself; the reason stands there.
    """

    def __init__(self, reason: str, causes: Iterable[StepState]) -> None:
        super().__init__(reason)
        blamed = [*causes]
        self.reason = reason
        self.is_consequence = all(state.status is Status.SKIPPED for state in blamed)
        known = [state.verdict for state in blamed if state.verdict is not None]
        self.verdict = combine(verdict for verdict in known if verdict is not Verdict.PASS)


class Call(msgspec.Struct, frozen=True):
    """A step that can be done.

    Attributes:
        values: its arguments for the engine.
        subjects: the package that it is about, when that is known before.
    """

    step: Step
    key: Digest
    values: dict[str, engine.Value]
    subjects: tuple[Subject, ...]

    def arguments(self, out: Path | None) -> dict[str, engine.Value]:
        """The values, with the place where the step is to write."""
        return {name: _placed(value, out) for name, value in self.values.items()}


def resolve(step: Step, states: Mapping[str, StepState]) -> Call:
    """The call that a step amounts to, once everything that it depends on is over.

    Raises:
        Unmet: something that it needs is not there.
        NotFound, AccessDenied: a file of the user's own cannot be read.
    """
    if bad := [states[name] for name in step.needs if not states[name].is_good]:
        raise Unmet(f"{bad[0].step.name} {_ended(bad[0])}", bad)
    resolver = _Resolver(states)
    values: dict[str, engine.Value] = {}
    parameters: dict[str, JSON] = {}
    about: tuple[Subject, ...] = ()
    for name, argument in step.arguments.items():
        known = len(resolver.subjects)
        values[name], parameters[name] = resolver.value(argument)
        if name == step.subject:
            about = tuple(resolver.subjects[known:])
    for name in step.after:
        parameters[f"after {name}"] = resolver.evidence(name)
    for path in step.watches:
        parameters[f"content of {path.name}"] = _file_digest(path)
    if step.is_of_machine:
        environment = capture_environment()
        parameters["machine"] = [environment.cpu, environment.isa, environment.threads]
    key = step_key(
        step.verb,
        version=step.version,
        subjects=resolver.subjects,
        parameters={name: form for name, form in parameters.items() if form != _IRRELEVANT},
        seed=step.seed,
        runtimes={name: _version(name) for name in step.runtimes},
    )
    return Call(step, key, values, about)


_IRRELEVANT: JSON = {"irrelevant": True}


class _Resolver:
    """Turns arguments into values; `value` also gives the form in which an argument enters the key."""

    def __init__(self, states: Mapping[str, StepState]) -> None:
        self._states = states
        self.subjects: list[Subject] = []

    def value(self, argument: Argument) -> tuple[engine.Value, JSON]:
        match argument:
            case Given():
                return engine.Plain(argument.value), ["given", argument.value]
            case Setting():
                return engine.Plain(argument.value), _IRRELEVANT
            case StoreHere():
                return engine.TheStore(), _IRRELEVANT
            case File():
                return engine.PathAt(str(argument.path)), ["file", _file_digest(argument.path)]
            case Named():
                state = self._good(argument.pinned_by)
                return engine.Plain(str(argument.ref)), self._package(state, argument.ref.scheme)
            case Product():
                state = self._good(argument.step)
                if state.product is None:
                    raise Unmet(f"{argument.step} made nothing", [state])
                return engine.Plain(str(state.product)), self._package(state, "product")
            case Found():
                record = self._states[argument.step].record
                if record is None:
                    raise Unmet(f"there is no evidence of {argument.step}", [self._states[argument.step]])
                return engine.EvidenceAt(record.digest), ["evidence", record.digest]
            case Out():
                return engine.PathAt(_OUT), ["out", argument.name]
            case _:
                return self._compound(argument)

    def _compound(self, argument: Argument) -> tuple[engine.Value, JSON]:
        match argument:
            case Fields():
                values, forms = self._fields(argument.fields)
                return engine.Fields(values), forms
            case Made():
                values, forms = self._fields(argument.arguments)
                return engine.Made(argument.function, values), [argument.function, forms]
            case Several():
                return self._several(argument)
            case Chosen():
                return self._chosen(argument)
        raise TypeError(type(argument).__name__)

    def _fields(self, arguments: Mapping[str, Argument]) -> tuple[dict[str, engine.Value], JSON]:
        both = {name: self.value(inner) for name, inner in arguments.items()}
        forms = {name: form for name, (_, form) in both.items() if form != _IRRELEVANT}
        return {name: value for name, (value, _) in both.items()}, forms

    def _several(self, argument: Several) -> tuple[engine.Value, JSON]:
        values, forms, dropped = [], [], []
        for item in argument.items:
            if bad := [self._states[name] for name in item.needs if not self._states[name].is_good]:
                dropped += bad
                continue
            value, form = self.value(item.argument)
            values.append(value)
            forms.append(form)
        if not values:
            told = [state for state in dropped if state.status is not Status.SKIPPED] or dropped
            said = "; ".join(dict.fromkeys(f"{state.step.name} {_ended(state)}" for state in told))
            raise Unmet(f"no {argument.what} left: {said}", dropped)
        return engine.Items(tuple(values)), forms

    def _chosen(self, argument: Chosen) -> tuple[engine.Value, JSON]:
        state = self._good(argument.step)
        assert state.record is not None
        name = argument.choice(state.record.evidence)
        if name is None or name not in argument.among:
            said = state.record.evidence.summary if name is None else f"it names {name!r}"
            raise Unmet(f"{argument.step} chose nothing: {said}", [state])
        return self.value(argument.among[name])

    def _good(self, name: str) -> StepState:
        state = self._states[name]
        if not state.is_good or state.record is None:
            raise Unmet(f"{name} {_ended(state)}", [state])
        return state

    def _package(self, state: StepState, scheme: str) -> JSON:
        """A package in the key: its digest, whatever it is called. A computed one is as good from anywhere."""
        assert state.record is not None
        subject = state.record.evidence.subject[0]
        self.subjects.append(subject)
        return ["package", scheme if subject.digest is not DigestKind.COMPUTED else "", subject.sha256]

    def evidence(self, name: str) -> JSON:
        record = self._states[name].record
        return None if record is None else record.digest


def _ended(state: StepState) -> str:
    """What became of a step, in words that follow its name."""
    if state.record is not None and state.verdict is Verdict.FAIL:
        return f"says fail: {state.record.evidence.summary}"
    return "was not done" + (f": {state.reason}" if state.status is Status.FAILED else "")


def _placed(value: engine.Value, out: Path | None) -> engine.Value:
    if isinstance(value, engine.PathAt) and value.path == _OUT:
        assert out is not None
        return engine.PathAt(str(out))
    return value


def _file_digest(path: Path) -> Digest:
    try:
        return digest_file(path)
    except FileNotFoundError as error:
        raise NotFound("there is no such file", where=str(path)) from error
    except OSError as error:
        raise AccessDenied(f"the file cannot be read: {error.strerror}", where=str(path)) from error


def _version(distribution: str) -> str:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return ""
