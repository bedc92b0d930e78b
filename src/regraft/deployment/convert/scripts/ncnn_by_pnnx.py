"""A graph of ncnn from ONNX or TorchScript, by PNNX, a program of its own; standard library alone."""

import importlib.metadata
import importlib.util
import json
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

_SAID = 600
_INPUT = re.compile(r'ex\.input\("(\w+)", ncnn\.Mat\(.*batch_index=(\d+)\)')
_OUTPUT = re.compile(r"from_numpy\((\w+)\.numpy\(batch_index=(\d+)\)")
_TELLING = re.compile(r"not supported|unsupported|failed|error|no such", re.IGNORECASE)
_NO_BATCH = 233
_STEP = "#####"


def convert(model, out, options):
    """Convert at fixed sizes, with weights as they are; the blobs at both ends, and where their batch is, beside it.

    PNNX writes these down nowhere but in the Python that it makes as an example, which is read and never run.

    Raises:
        ValueError: PNNX made no graph; its lines that say why.
    """
    program = Path(importlib.util.find_spec("pnnx").origin).with_name("pnnx")
    work = Path(tempfile.mkdtemp())
    copy = shutil.copytree(Path(model).parent, work / "source") / Path(model).name  # it writes a graph beside its input
    made = {
        name: work / f"made.{name}" for name in ("ncnnparam", "ncnnbin", "ncnnpy", "pnnxparam", "pnnxbin", "pnnxpy")
    }
    made["pnnxonnx"] = work / "made.pnnxonnx"
    command = [str(program), str(copy), "fp16=0", f"inputshape={options['sizes']}"]
    command += [f"{name}={path}" for name, path in made.items()]
    done = subprocess.run(command, cwd=work, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    said = (done.stdout + done.stderr).decode("utf-8", "replace").splitlines()
    reasons = " ".join(dict.fromkeys(line.strip() for line in said if _TELLING.search(line)))[:_SAID]
    if done.returncode or not made["ncnnparam"].exists() or not made["ncnnpy"].exists():
        steps = [line.strip("# ") for line in said if line.startswith(_STEP)]
        how = f"died of signal {-done.returncode}" if done.returncode < 0 else f"ended with {done.returncode}"
        raise ValueError(
            f"pnnx {how} in {steps[-1] if steps else 'its first step'}: {reasons or 'it does not say why'}"
        )
    example = made["ncnnpy"].read_text()
    ends = [_ends(pattern.findall(example)) for pattern in (_INPUT, _OUTPUT)]
    place = Path(out)
    made["ncnnparam"].rename(place / "model.param")
    made["ncnnbin"].rename(place / "model.bin")
    blobs, axes = zip(*ends, strict=True)
    (place / "model.json").write_text(json.dumps({"blobs": blobs, "batch_axes": axes}))
    versions = {"pnnx": importlib.metadata.version("pnnx")}
    return {"model": "model.param", "notes": [f"pnnx: {reasons}"] if reasons else [], "versions": versions}


def _ends(found):
    """Names of blobs, and the axis of each that is the batch."""
    return [name for name, _ in found], [None if int(axis) == _NO_BATCH else int(axis) for _, axis in found]
