"""One way after the other, hop by hop; each hop's result is verified against the source before the next begins."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from regraft.compare.pairing import pair_inputs
from regraft.deployment.convert.companions import write_companions
from regraft.deployment.convert.completeness import Shortfall, shortfall
from regraft.deployment.convert.confined import hop_in_sandbox
from regraft.deployment.convert.forms import form_named
from regraft.deployment.convert.interface import Converter, Hop, Source
from regraft.deployment.convert.members import own_converters
from regraft.deployment.loading import LoadRequest, Opened, opened
from regraft.deployment.texts import both_from_texts
from regraft.deployment.verify import verify
from regraft.errors import RegraftError, Unsupported
from regraft.package.package import Package
from regraft.record.evidence import Evidence, Verdict
from regraft.record.permit import Permit, Scope
from regraft.runtime.hard_texts import string_cases
from regraft.runtime.isolated import IsolatedModel
from regraft.runtime.text_model import TEXTS, takes_texts
from regraft.runtime.verified import VerifiedFiles

if TYPE_CHECKING:
    from regraft.deployment.task import TaskData
    from regraft.record.store import Store
    from regraft.runtime.interface import Feeds
    from regraft.runtime.permission import PermitSource

ARROW = " → "
_RANKS = {Verdict.PASS: 2, Verdict.INCONCLUSIVE: 1, Verdict.FAIL: 0}


class Link(msgspec.Struct, frozen=True):
    """One hop that was gone.

    Attributes:
        converter: its name.
        form: what it made.
        hop: the files.
        folder: where they lie, as a package.
        seconds: wall time of the conversion alone.
        verification: evidence of kind `verify` against the source; None where it could not be loaded.
        error: why it could not be judged.
        shortfall: what it cannot do that the source can.
    """

    converter: str
    form: str
    hop: Hop
    folder: Path
    seconds: float
    verification: Evidence | None = None
    error: RegraftError | None = None
    shortfall: Shortfall = Shortfall()

    @property
    def verdict(self) -> Verdict:
        """Of the verification; what was not judged is inconclusive, and what lost an output is not the same network."""
        if self.shortfall.is_loss:
            return Verdict.FAIL
        return self.verification.verdict if self.verification is not None else Verdict.INCONCLUSIVE

    @property
    def rank(self) -> tuple[int, bool]:
        """Higher is better: the verdict, then whether it runs at every size."""
        return _RANKS[self.verdict], not self.shortfall.message

    @property
    def is_whole(self) -> bool:
        """It is proven, and does all that the source does."""
        return self.verdict is Verdict.PASS and not self.shortfall.message


class Dropped(msgspec.Struct, frozen=True):
    """A way that was given up.

    Attributes:
        way: names of its converters, as far as it was gone.
        error: why.
        is_divergence: the last of them works, and makes another network.
    """

    way: tuple[str, ...]
    error: RegraftError
    is_divergence: bool = False


class Judging(msgspec.Struct, frozen=True, kw_only=True):
    """How every hop is verified.

    Attributes:
        feeds: the user's own inputs, as for `verify`.
        task: labelled rows, by which a hop of lower precision is judged.
        seed, threads, store: as for `verify`.
        permit: leave to load what was made, where its format could execute code; None knows of none.
        localise: look at the operators of the last hop's product, too.
    """

    feeds: Feeds | Sequence[Feeds] | Sequence[str] | Path | None = None
    task: TaskData | None = None
    seed: int = 0
    threads: int | None = None
    store: Store | None = None
    permit: PermitSource | None = None
    localise: bool = True


class Search:
    """Goes ways, remembers what each hop made, and what went wrong where.

    Args:
        source: opened; its model is what every hop is compared with.
        examples: inputs that the converters may run.
        given: how many of them are the user's own; they come first.
        judging: how results are verified.
        work: empty folder for what is made.
        name: of the product's folder.
        on_hop: told the way before its last hop is tried, so that who watches knows what was running in a crash.
        dead: way, its names joined by an arrow → why it is not to be tried again.

    `dropped` holds the ways that were given up; `is_exhausted` is False when others are left that were not tried.
    """

    def __init__(
        self,
        source: Opened,
        examples: Sequence[Feeds],
        judging: Judging,
        *,
        work: Path,
        name: str,
        given: int = 0,
        on_hop: Callable[[Sequence[str]], None] | None = None,
        dead: Mapping[str, str] | None = None,
    ) -> None:
        self.dropped = [Dropped(tuple(way.split(ARROW)), Unsupported(why)) for way, why in (dead or {}).items()]
        self.is_exhausted = True
        self._source = source
        self._examples = tuple(examples)
        self._given = given
        self._judging = judging
        self._work = work
        self._name = name
        self._on_hop = on_hop or (lambda way: None)
        self._links: dict[tuple[str, ...], Link] = {}

    def is_dead(self, way: Sequence[Converter]) -> bool:
        """Does it begin as a way that was given up?"""
        names = tuple(member.name for member in way)
        return any(names[: len(dropped.way)] == dropped.way for dropped in self.dropped)

    def follow(self, way: Sequence[Converter]) -> tuple[Link, ...]:
        """Go one way as far as it leads; empty when a hop of it failed or made another network on the way.

        The last hop is returned whatever the verdict about it is.
        """
        done: list[Link] = []
        with ExitStack() as stack:
            at = self._start()
            for number, member in enumerate(way, 1):
                names = tuple(one.name for one in way[:number])
                if any(dropped.way == names for dropped in self.dropped):
                    return ()
                is_last = number == len(way)
                try:
                    link, found = self._gone(names, member, at, stack, is_last=is_last)
                except RegraftError as error:
                    self.dropped.append(Dropped(names, error))
                    return ()
                done.append(link)
                if is_last:
                    break
                if link.verdict is Verdict.FAIL:
                    self.dropped.append(Dropped(names, why_not(link), is_divergence=True))
                    return ()
                if found.model is None:
                    self.dropped.append(Dropped(names, link.error or Unsupported("it cannot be loaded")))
                    return ()
                try:
                    at = self._next(found)
                except Unsupported as error:  # it has other inputs
                    self.dropped.append(Dropped(names, error))
                    return ()
        return tuple(done)

    def _start(self) -> Source:
        source = self._source
        files = VerifiedFiles(source.package, source.permit) if source.package is not None else None
        where = source.model.where if source.model is not None else source.path
        return Source(source.model, self._examples, files, source.path, where, self._given)

    def _next(self, found: Opened) -> Source:
        """What was made, with the examples under its names, and without inputs that it does not have."""
        assert found.package is not None
        assert found.model is not None
        assert self._source.model is not None
        files = VerifiedFiles(found.package, found.permit)
        ours, theirs = self._source.model.signature.inputs, found.model.signature.inputs
        names = pair_inputs(ours, theirs, found.path).names
        examples = tuple({names[name]: one[name] for name in one if name in names} for one in self._examples)
        return Source(found.model, examples, files, found.path, found.path, self._given)

    def _gone(
        self, names: tuple[str, ...], member: Converter, at: Source, stack: ExitStack, *, is_last: bool
    ) -> tuple[Link, Opened]:
        """One hop: converted, written, loaded and verified. What was done for another way is not done again."""
        link = self._links.get(names) or self._converted(names, member, at)
        if unrun := form_named(link.form).unrun:
            link = msgspec.structs.replace(link, error=Unsupported(f"{unrun}: it was made, and not run"))
            self._links[names] = link
            return link, Opened(())
        judging = self._judging
        is_ours = link.hop.is_compiled and member in own_converters()
        permit = _as_compiled if is_ours else judging.permit
        request = LoadRequest(runtime=link.hop.runtime, threads=judging.threads, store=judging.store, permit=permit)
        try:
            found = stack.enter_context(opened(link.folder, request))
        except RegraftError as error:  # no such runtime, or not installed: made all the same
            found = Opened((), error=error)
        if link.verification is None and link.error is None:
            link = self._verified(link, found, is_last=is_last)
        self._links[names] = link
        return link, found

    def _converted(self, names: tuple[str, ...], member: Converter, at: Source) -> Link:
        self._on_hop(names)
        started = time.perf_counter()
        hop = _hop(member, at)
        seconds = time.perf_counter() - started
        folder = self._work / str(len(self._links)) / self._name
        folder.mkdir(parents=True)
        for name, content in hop.files.items():
            place = folder / name
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(content)
        write_companions(folder, self._source, hop, member.target)
        return Link(member.name, member.target, hop, folder, seconds)

    def _verified(self, link: Link, found: Opened, *, is_last: bool) -> Link:
        judging = self._judging
        if found.error is not None:
            return msgspec.structs.replace(link, error=found.error)
        try:
            verification = verify(
                self._source,
                found,
                feeds=judging.feeds,
                task=judging.task,
                seed=judging.seed,
                precision=form_named(link.form).precision or None,
                threads=judging.threads,
                store=judging.store,
                localise=is_last and judging.localise,
                layers=False,
            )
        except RegraftError as error:
            return msgspec.structs.replace(link, error=error)
        if judging.store is not None:
            judging.store.put_evidence(verification)
        source, product = both_from_texts(self._source, found)
        assert source.model is not None
        assert product.model is not None
        is_text = takes_texts(product.model)
        examples = [case.feeds for case in string_cases(TEXTS)] if is_text else self._examples
        lacks = shortfall(source.model, product.model, examples)
        return msgspec.structs.replace(link, verification=verification, shortfall=lacks)


def _as_compiled(package: Package, _: str | None) -> Permit:
    """Leave for exactly the bytes that our own compiler has just written, from a network that was permitted."""
    digest = package.manifest().digest
    return Permit(digest, Scope.DATA, digest)


def why_not(link: Link) -> RegraftError:
    """Why a result is not good enough to stop at."""
    if link.error is not None:
        return link.error
    if link.shortfall.message:
        return Unsupported(link.shortfall.message)
    assert link.verification is not None
    said = "it makes another network" if link.verdict is Verdict.FAIL else "it could not be proven"
    return Unsupported(f"{said}: {link.verification.summary}")


def _hop(member: Converter, source: Source) -> Hop:
    """One conversion. Whatever goes wrong in it is that hop's failure, and other ways are left."""
    model = source.model
    try:
        if isinstance(model, IsolatedModel) and model.is_sandboxed:
            return hop_in_sandbox(member.name, source, model)
        hop = member.convert(source)
    except RegraftError:
        raise
    except Exception as error:
        if member in own_converters():
            raise
        raise Unsupported(f"{type(error).__name__}: {str(error)[:500]}", where=source.where) from error
    if not isinstance(hop, Hop) or not hop.files:
        raise Unsupported("the converter returned no files", where=source.where)
    return hop
