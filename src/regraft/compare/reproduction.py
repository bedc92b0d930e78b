"""A divergence written down so that somebody else can run it: two graphs, arrays, a script, a text."""

from __future__ import annotations

import platform
from importlib import import_module
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

from regraft.errors import Unsupported
from regraft.runtime.region import Region, onnx_from_region

if TYPE_CHECKING:
    import onnx

    from regraft.compare.localise import Origin
    from regraft.compare.trial import Counterpart, Outcome, Trial
    from regraft.runtime.interface import Array

CANDIDATE, REFERENCE = "candidate.onnx", "reference.onnx"
_PACKAGES = ("onnxruntime", "onnx", "numpy", "regraft")
_MAX_LISTED = 8

_SCRIPT = '''"""Runs candidate.onnx; exits 1 while it differs from what is expected by more than rounding explains."""
import pathlib, platform, sys
import numpy as np, onnxruntime as ort

print(f"onnxruntime {{ort.__version__}}, numpy {{np.__version__}}, python {{platform.python_version()}}")
here = pathlib.Path(__file__).parent
inputs, wanted = np.load(here / "inputs.npz"), np.load(here / "expected.npz")
expected, limit = wanted["expected"].astype(float), wanted["limit"]  # one limit for each number; inf: not compared
options = ort.SessionOptions()
options.log_severity_level = 3
options.graph_optimization_level = ort.GraphOptimizationLevel.{level}
for name in {models}:
    session = ort.InferenceSession(str(here / name), options, providers=["CPUExecutionProvider"])
    got = session.run(None, {{one.name: inputs[one.name] for one in session.get_inputs()}})[0]
    difference = np.nan_to_num(np.abs(got.astype(float) - expected), nan=np.inf)[np.isfinite(limit)]
    rms = np.sqrt(np.square(difference).mean())
    differs = (difference > limit[np.isfinite(limit)]).any() or rms > wanted["rms_limit"]
    print(f"{{name}}: max difference {{difference.max():.6g}}, RMS {{rms:.6g}}:", "differs" if differs else "agrees")
sys.exit(int(differs))
'''


def write_reproduction(
    folder: Path, origin: Origin, trial: Trial, region: Region, inputs: dict[str, Array], outcome: Outcome
) -> None:
    """Write the files of a case.

    Args:
        folder: empty.
        origin: what the text tells of.
        trial: both parts.
        region: the candidate's operators that are left.
        inputs: theirs.
        outcome: what they come to on these inputs.
    """
    import numpy as np
    import onnx

    models = [CANDIDATE]
    arrays = dict(inputs)
    onnx.save(onnx_from_region(region, inputs), str(folder / CANDIDATE))
    found = _reference(trial.counterpart, outcome, inputs, optimise=trial.optimise)
    if found is not None:
        onnx.save(found[0], str(folder / REFERENCE))
        arrays |= found[1]
        models.insert(0, REFERENCE)
    np.savez(folder / "inputs.npz", **arrays)  # type: ignore[arg-type]
    limits = outcome.limits
    np.savez(folder / "expected.npz", expected=outcome.expected, limit=limits.elements, rms_limit=limits.rms)
    level = "ORT_ENABLE_ALL" if trial.optimise else "ORT_DISABLE_ALL"
    (folder / "run.py").write_text(_SCRIPT.format(level=level, models=tuple(models)), encoding="utf-8")
    text = _issue(origin, trial, region, inputs, outcome, models)
    (folder / "ISSUE.md").write_text(text, encoding="utf-8")


def _reference(
    counterpart: Counterpart | None, outcome: Outcome, theirs: dict[str, Array], *, optimise: bool
) -> tuple[onnx.ModelProto, dict[str, Array]] | None:
    """The reference's part with its inputs, if it is ONNX, agrees, and can be shown in the candidate's layout."""
    from regraft.runtime.onnxruntime_model import OnnxRuntimeModel

    if counterpart is None:
        return None
    inputs = counterpart.inputs(outcome.inputs)
    try:
        model = onnx_from_region(counterpart.region, inputs)
    except Unsupported:
        return None
    arrays = {}
    for value in model.graph.input:
        name = value.name
        if name in theirs and not _is_same(theirs[name], inputs[name]):
            value.name = f"reference:{name}"
            _prepend(model, "Identity", value.name, name)
        arrays[value.name] = inputs[name]
    if not _as_candidate(model, counterpart, outcome):
        return None
    (own,) = OnnxRuntimeModel(model.SerializeToString(), threads=1, optimise=optimise)(arrays).values()
    return (model, arrays) if outcome.limits.margin(own, outcome.expected) <= 1 else None


def _is_same(one: Array, other: Array) -> bool:
    return one.dtype == other.dtype and one.shape == other.shape and bool((one == other).all())


def _prepend(model: onnx.ModelProto, operator: str, taken: str, made: str) -> None:
    from onnx import helper

    nodes = [helper.make_node(operator, [taken], [made]), *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def _as_candidate(model: onnx.ModelProto, counterpart: Counterpart, outcome: Outcome) -> bool:
    """Bring the reference's end into the candidate's layout."""
    import numpy as np
    from onnx import ValueInfoProto, helper, numpy_helper

    layout, shape = counterpart.layout, outcome.expected.shape
    own = counterpart.run(outcome.inputs, "float32")[counterpart.region.end]
    end, turned = counterpart.region.end, "reference:expected"
    if layout.block:
        return False
    if layout.axes is not None:
        if own.ndim != len(layout.axes):
            return False
        perm = [int(axis) for axis in np.argsort(layout.axes)]
        model.graph.node.append(helper.make_node("Transpose", [end], [turned], perm=perm))
    elif own.shape != shape:
        model.graph.initializer.append(numpy_helper.from_array(np.array(shape, np.int64), "reference:shape"))
        model.graph.node.append(helper.make_node("Reshape", [end, "reference:shape"], [turned]))
    elif counterpart.region.nodes:
        turned = end
    else:
        model.graph.node.append(helper.make_node("Identity", [end], [turned]))
    del model.graph.output[:]
    model.graph.output.append(ValueInfoProto(name=turned))
    return True


def _issue(
    origin: Origin,
    trial: Trial,
    region: Region,
    inputs: dict[str, Array],
    outcome: Outcome,
    models: list[str],
) -> str:
    operators = [f"`{node.operator}`" for node in region.nodes]
    title = f"{_listed(operators)}: {origin.detail if origin.cause else 'another result than the reference'}"
    sections = [
        f"# {title}",
        _what(outcome, operators),
        "## Where\n\n" + _where(origin, trial, region),
        "## Cause\n\n" + _cause(origin),
        "## Reproduce\n\n" + _reproduce(models),
        "## Inputs\n\n" + _inputs(inputs),
        "## Versions\n\n" + "\n".join(f"- {line}" for line in _versions()),
    ]
    return "\n\n".join(sections) + "\n"


def _what(outcome: Outcome, operators: list[str]) -> str:
    import numpy as np

    difference = outcome.limits.difference(outcome.computed, outcome.expected)
    compared = np.isfinite(outcome.limits.elements)
    if outcome.expected.dtype.kind != "f":
        wrong = int((difference[compared] != 0).sum())
        return f"{len(operators)} operator(s) give another result in {wrong} of {compared.sum()} numbers."
    rms = float(np.sqrt(np.square(difference[compared]).mean()))
    scale = float(np.sqrt(np.square(outcome.expected[compared]).mean()))
    share = f" ({rms / scale:.3g} of the RMS of the expected values, {scale:.3g})" if scale > 0 else ""
    return (
        f"{len(operators)} operator(s) give a result that differs from the expected one by up to "
        f"{outcome.max_abs_error:.4g}; RMS {rms:.4g}{share}. Rounding explains an RMS of at most "
        f"{outcome.limits.rms:.3g} here."
    )


def _where(origin: Origin, trial: Trial, region: Region) -> str:
    nodes = _listed([f"`{node.name}` ({node.operator})" for node in region.nodes])
    lines = [f"- candidate{_file(region.graph.where)}: {nodes}, result `{region.end}`"]
    if trial.counterpart is not None:
        part = trial.counterpart.region
        nodes = _listed([f"`{node.name}` ({node.operator})" for node in part.nodes])
        lines.append(f"- reference{_file(part.graph.where)}: {nodes or 'no operator'}, result `{part.end}`")
    else:
        lines.append(f"- reference: {_listed([f'`{name}`' for name in origin.reference])}, result `{origin.tensor}`")
    if trial.lowered is not None:
        lines.append(f"- weights of the reference are rounded to {trial.lowered} here, as the candidate's are")
    return "\n".join(lines)


def _cause(origin: Origin) -> str:
    if origin.cause is None:
        return "Not known: " + (origin.detail or "no hypothesis was tried") + "."
    text = f"`{origin.cause}`: {origin.detail}."
    if origin.ratio is not None and origin.residual is not None:
        text += (
            f" With that mended, the difference on the network's own values falls from {origin.ratio.rms:.3g} to "
            f"{origin.residual.rms:.3g} times what rounding does to the reference (RMS)."
        )
    return text


def _reproduce(models: list[str]) -> str:
    pins = " ".join(f"{name}=={_version(name)}" for name in ("onnxruntime", "numpy"))
    also = f" It runs `{REFERENCE}`, too, which agrees with what is expected." if REFERENCE in models else ""
    return (
        f"```\npip install {pins}\npython run.py\n```\n\nThe script exits 1 while `{CANDIDATE}` differs from "
        f"`expected.npz` by more than the limits there, and 0 once it does not.{also}"
    )


def _inputs(inputs: dict[str, Array]) -> str:
    rows = ["| input | dtype | shape | not zero |", "|---|---|---|---|"]
    rows += [
        f"| `{name}` | {value.dtype} | {list(value.shape)} | {int((value != 0).sum())} of {value.size} |"
        for name, value in inputs.items()
    ]
    return "\n".join(rows)


def _versions() -> list[str]:
    found = [f"{name} {_version(name)}" for name in _PACKAGES]
    return [*found, f"Python {platform.python_version()}, {platform.system()} {platform.machine()}"]


def _version(module: str) -> str:
    """What is imported here; its distribution may have another name, as onnxruntime-gpu has."""
    return str(import_module(module).__version__)


def _listed(names: list[str]) -> str:
    """Names in order, the middle left out where there are many."""
    if len(names) <= _MAX_LISTED:
        return ", ".join(names)
    half = _MAX_LISTED // 2
    return f"{', '.join(names[:half])}, … ({len(names)} in all) …, {', '.join(names[-half:])}"


def _file(where: str) -> str:
    """The file's name alone: paths of whoever found it are nobody's business."""
    return f" `{PurePath(where).name}`" if where else ""


__all__ = ["CANDIDATE", "REFERENCE", "write_reproduction"]
