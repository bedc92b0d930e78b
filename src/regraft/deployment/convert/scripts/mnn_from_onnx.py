"""A model of MNN from ONNX, by MNN's own converter, which is a library in C++ that prints and returns no errors."""

import importlib.metadata
import os
import re
import tempfile
from pathlib import Path

_SAID = 600
_TELLING = re.compile(r"not support|error|fail|can't|don't", re.IGNORECASE)
_STAMP = re.compile(r"^\[\d\d:\d\d:\d\d\] \S*:\d+: ")


def convert(model, out, options):
    """Convert with weights as they are; what the model says of itself stands in the text that MNN keeps for its user.

    `MNN.tools`, which the command line uses, installs a package and reports every conversion to its makers when it is
    imported: it is left alone.

    Raises:
        ValueError: MNN made nothing; its lines that say why, with the operators that it lacks.
    """
    import _tools

    path = Path(out) / "model.mnn"
    command = ["mnnconvert", "-f", "ONNX", "--modelFile", model, "--MNNModel", str(path)]
    with tempfile.TemporaryFile() as log:
        streams = [os.dup(1), os.dup(2)]
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
        try:
            _tools.mnnconvert([*command, "--bizCode", options["signature"]])
        finally:
            for number, stream in enumerate(streams, 1):
                os.dup2(stream, number)
                os.close(stream)
        log.seek(0)
        said = [_STAMP.sub("", line) for line in log.read().decode("utf-8", "replace").splitlines()]
    if not path.exists():
        telling = [line.strip() for line in said if _TELLING.search(line)]
        raise ValueError(
            " ".join(telling)[:_SAID] or " ".join(said)[-_SAID:] or "MNN made nothing, and does not say why"
        )
    return {"model": "model.mnn", "notes": [], "versions": {"mnn": importlib.metadata.version("mnn")}}
