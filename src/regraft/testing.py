"""For tests of whoever reuses a network: is what we ship still the network that we took?"""

from __future__ import annotations

import contextlib
import os
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from regraft.record.evidence import Evidence, Finding

_MAX_SHOWN = 5


def assert_equivalent(
    reference: Any,
    candidate: Any,
    feeds: Any = None,
    *,
    precision: str | None = None,
    atol: float | None = None,
    rtol: float | None = None,
    seed: int = 0,
    threads: int | None = None,
    allow_inconclusive: bool = False,
    **options: Any,
) -> Evidence:
    """Fail unless rounding explains every difference between two networks.

    Args:
        reference: what counts as right: a reference or path, an open package, a loaded model, or a torch module,
            which is run in evaluation mode and needs feeds.
        candidate: what is in question; likewise.
        feeds: inputs by name (arrays or tensors), a list of such, texts for a text package, or the path of a file;
            tried before made-up ones.
        precision: what the candidate is meant to compute in; None means as the reference.
        atol, rtol: fixed limits in place of noise floors.
        seed: of made-up inputs.
        threads: intra-op threads of both.
        allow_inconclusive: let pass what could not be decided.
        options: others of `regraft.verify`.
    Returns:
        the evidence, for further looks.
    Raises:
        AssertionError: they are not equivalent; the message names output, layer and cause, the inputs and their seed.
        RegraftError: they could not be compared at all.
    """
    __tracebackhide__ = True
    from regraft.workflow.verify import verify

    given = _arrays(feeds)
    asked = {"precision": precision, "atol": atol, "rtol": rtol, "seed": seed, "threads": threads, **options}
    with _as_model(reference, given, threads) as ours, _as_model(candidate, given, threads) as theirs:
        evidence = verify(ours, theirs, feeds=given, **asked)
    if evidence.verdict == "pass" or (allow_inconclusive and evidence.verdict == "inconclusive"):
        return evidence
    raise AssertionError(_message(evidence, reference, candidate, feeds, asked))


@contextlib.contextmanager
def _as_model(model: Any, feeds: Any, threads: int | None) -> Iterator[Any]:
    """A torch module as a model, and afterwards in the mode in which it was; anything else as it is."""
    import sys

    torch = sys.modules.get("torch")
    if torch is None or not isinstance(model, torch.nn.Module):
        yield model
        return
    from regraft.errors import UsageError
    from regraft.runtime.torch_factory import torch_model

    examples = feeds[0] if isinstance(feeds, Sequence) and feeds and not isinstance(feeds, str) else feeds
    if not isinstance(examples, Mapping):
        raise UsageError("a torch module says nothing of its inputs: give feeds, arrays by the names of forward()")
    training = [(module, module.training) for module in model.modules()]
    try:
        yield torch_model(model, examples, threads=threads, where=type(model).__name__)
    finally:
        for module, was in training:
            module.training = was


def _arrays(feeds: Any) -> Any:
    """Feeds with arrays in place of torch tensors."""
    if isinstance(feeds, Mapping):
        return {name: value.detach().cpu().numpy() if hasattr(value, "detach") else value
                for name, value in feeds.items()}  # fmt: skip
    if isinstance(feeds, str):
        return Path(feeds)
    return [_arrays(one) for one in feeds] if isinstance(feeds, list) and feeds and not _is_text(feeds) else feeds


def _is_text(feeds: Sequence[Any]) -> bool:
    return all(isinstance(one, str) for one in feeds)


def _message(evidence: Evidence, reference: Any, candidate: Any, feeds: Any, asked: Mapping[str, Any]) -> str:
    verdict = f"{evidence.verdict.value}, {evidence.outcome}"
    lines = [f"{_name(candidate)} is not shown to be the network that {_name(reference)} is: {verdict}"]
    wanted = [f for f in evidence.findings if f.severity.verdict == evidence.verdict and f.rule != "divergence.origin"]
    lines += [f"  {finding.message}{_seed(finding)}" for finding in wanted[:_MAX_SHOWN]]
    lines += [f"    {measured}" for measured in _ratios(evidence)]
    origins = [finding for finding in evidence.findings if finding.rule == "divergence.origin"]
    for finding in origins[:_MAX_SHOWN]:
        lines += _origin(finding)
    if len(origins) > _MAX_SHOWN:
        lines.append(f"  and {len(origins) - _MAX_SHOWN} other origins")
    lines += [f"  to do: {finding.fix}" for finding in wanted[:_MAX_SHOWN] if finding.fix]
    lines.append(f"  look further: {_command(reference, candidate, feeds, asked)}")
    return "\n".join(lines)


def _ratios(evidence: Evidence) -> list[str]:
    """Ratios of the outputs that differ, in noise floors."""
    beyond = {f.where.field for f in evidence.findings if f.rule.startswith("divergence.") and f.where.field}
    return [
        f"{one.name} {one.value:.3g} {one.unit} at output {one.of['output']} on {one.of.get('feeds', 'all feeds')}"
        for one in evidence.measurements
        if one.name in ("rms_ratio", "peak_ratio") and one.of.get("output") in beyond and one.value is not None
    ]


def _origin(finding: Finding) -> list[str]:
    where, data = finding.where, finding.data
    ratio = data.get("ratio")
    lines = [
        f"  layer: {where.candidate or 'nothing'} in the candidate, {where.reference or 'nothing'} in the reference",
        f"    cause: {data.get('cause') or 'unknown'}",
    ]
    if isinstance(ratio, int | float):
        lines.append(f"    ratio: {ratio:.3g} noise floors at that layer")
    return [*lines, f"    {finding.message}"]


def _seed(finding: Finding) -> str:
    seed = finding.data.get("feeds_seed")
    return f" (its seed: {seed})" if seed is not None else ""


def _name(model: Any) -> str:
    if isinstance(model, str | os.PathLike):
        return os.fspath(model)
    return str(getattr(model, "where", "") or getattr(model, "ref", "") or type(model).__name__)


def _command(reference: Any, candidate: Any, feeds: Any, asked: Mapping[str, Any]) -> str:
    """What to type: a command where both can be named, else the call that returns all of the evidence."""
    named = isinstance(reference, str | os.PathLike) and isinstance(candidate, str | os.PathLike)
    if not named or not isinstance(feeds, str | os.PathLike | None):
        return f"evidence = regraft.verify(reference, candidate, feeds=feeds, seed={asked['seed']!r})"
    words = ["regraft", "verify", os.fspath(reference), os.fspath(candidate)]
    words += ["--feeds", os.fspath(feeds)] if feeds is not None else []
    for option in ("seed", "precision", "atol", "rtol", "threads", "runtime", "reference_runtime", "factory",
                   "candidate_factory"):  # fmt: skip
        if asked.get(option) is not None:
            words += [f"--{option.replace('_', '-')}", str(asked[option])]
    return shlex.join(words)
