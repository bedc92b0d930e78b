"""replicate: what findings about weights and about the forward pass amount to."""

from __future__ import annotations

from collections.abc import Sequence

from regraft.record.evidence import Draft, Evidence, Finding, Severity, Verdict

_OUTCOMES = {Verdict.PASS: "replicated", Verdict.FAIL: "differs", Verdict.INCONCLUSIVE: "undecided"}
_MAP_RULES = "replicate."


def concluded(draft: Draft, forward: Evidence | None) -> Evidence:
    """Freeze what was found.

    Args:
        draft: with the findings about weights.
        forward: the comparison of the two with the same weights; None where it could not be made. What it found is
            taken over.
    Returns:
        evidence of kind `replicate`: replicated, differs or undecided.
    """
    own = list(draft.findings)
    verdicts = [finding.severity.verdict for finding in own]
    if forward is not None:
        for finding in forward.findings:
            draft.find(finding)
        draft.measurements += forward.measurements
        draft.parameters["forward"] = dict(forward.parameters)
        verdicts.append(forward.verdict)
    else:
        verdicts.append(Verdict.FAIL if Verdict.FAIL in verdicts else Verdict.INCONCLUSIVE)
    verdict = next((one for one in (Verdict.FAIL, Verdict.INCONCLUSIVE) if one in verdicts), Verdict.PASS)
    return draft.finish(outcome=_OUTCOMES[verdict], summary=_summary(verdict, own, forward), verdict=verdict)


def _summary(verdict: Verdict, own: Sequence[Finding], forward: Evidence | None) -> str:
    blocking = [one for one in own if one.severity.verdict is verdict is not Verdict.PASS]
    if blocking:
        more = f" (and {len(blocking) - 1} more)" if len(blocking) > 1 else ""
        return blocking[0].message + more
    if forward is None:
        return "the forward pass could not be compared"
    if verdict is Verdict.PASS:
        return f"with the reference's weights it is the same network: {forward.summary}"
    if verdict is Verdict.INCONCLUSIVE:
        return forward.summary
    origins = [one for one in forward.findings if one.rule == "divergence.origin" and one.severity is Severity.HIGH]
    return f"with the reference's weights, {origins[0].message if origins else forward.summary}"
