"""A third framework through the file protocol alone: JAX, in a process that has no Regraft, judged against torch."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import regraft.runtime.dump_trace as dumper
from regraft.deployment.verify import verify
from regraft.record.evidence import Verdict

RUNTIME = Path(__file__).parents[1] / "runtime"

_PROGRAM = """
import sys; sys.path[:0] = [sys.argv[1]]
import jax, numpy as np
from dump_trace import Dump
from jax_factories import encoder
forward, _ = encoder(approximate=sys.argv[3] == "tanh")
dump = Dump(sys.argv[2], model="port", framework="jax", versions={"jax": jax.__version__})
for rows in (1, 3, 17):
    rng = np.random.default_rng(rows)
    feeds = {"ids": rng.integers(0, 50, (rows, 5)).astype("int32"), "mask": np.ones((rows, 5), "int32")}
    feeds["mask"][-1, 3:] = 0
    dump.next_pass("rows=%d" % rows)
    for name, value in feeds.items():
        dump.feed(name, value)
    for name, value in forward({name: jax.numpy.asarray(value) for name, value in feeds.items()}).items():
        dump.output(name, value)
dump.close()
assert "regraft" not in sys.modules
"""


@pytest.mark.parametrize(("gelu", "verdict"), [("erf", Verdict.PASS), ("tanh", Verdict.FAIL)])
def test_jax_takes_part_by_files(tmp_path, monkeypatch, gelu, verdict):
    for file in (Path(dumper.__file__), RUNTIME / "jax_factories.py"):
        shutil.copy(file, tmp_path)
    done = subprocess.run(
        [sys.executable, "-I", "-c", _PROGRAM, str(tmp_path), str(tmp_path / "run"), gelu],
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    monkeypatch.syspath_prepend(str(RUNTIME))
    evidence = verify("py:jax_factories:torch_twin", f"trace:{tmp_path / 'run'}", localise=False)
    assert evidence.verdict is verdict, evidence.summary
    assert evidence.parameters["feeds"] == ["rows=1", "rows=3", "rows=17"]
