"""Arrays in, arrays out, with the model beside this file. It needs numpy, and onnxruntime or openvino.

python run.py feeds.npz answers.npz    by the names of the model's inputs and outputs
python run.py --check                  is what it answers here what it answered where this was packed?
"""

import json
import sys
from pathlib import Path

import numpy as np
from sameness import LIMIT, error, stored

HERE = Path(__file__).parent
SETTINGS = json.loads((HERE / "runner.json").read_text(encoding="utf-8"))


def load():
    """A function from arrays by name to arrays by name."""
    path, inputs, outputs = str(HERE / SETTINGS["model"]), SETTINGS["inputs"], SETTINGS["outputs"]
    if SETTINGS["runtime"] == "openvino":
        import openvino

        compiled = openvino.Core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": SETTINGS["hint"]})
        return lambda feeds: dict(
            zip(outputs, compiled({i: feeds[name] for i, name in enumerate(inputs)}).values(), strict=True)
        )
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return lambda feeds: dict(zip(outputs, session.run(outputs, feeds), strict=True))


def check():
    """The largest error of the kept sample over its outputs."""
    with np.load(HERE / "sample/feeds.npz") as feeds, np.load(HERE / "sample/answers.npz") as wanted:
        found = load()(dict(feeds))
        return max(error(found[name], value) for name, value in wanted.items())


if __name__ == "__main__":
    if sys.argv[1:] == ["--check"]:
        worst = check()
        print(f"largest relative error {worst:.2g}: {'the same model' if worst <= LIMIT else 'NOT the same model'}")
        raise SystemExit(int(not worst <= LIMIT))
    if len(sys.argv) != 3:
        raise SystemExit(__doc__)
    with np.load(sys.argv[1]) as given:
        np.savez(sys.argv[2], **{name: stored(value) for name, value in load()(dict(given)).items()})
