"""The dumper as a stranger uses it: copied into a folder, run by a Python that has no Regraft on its path."""

from __future__ import annotations

import ast
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

import regraft.runtime.dump_trace as dumper
from regraft.package.package import open_package
from regraft.runtime.trace_files import TraceFiles
from regraft.runtime.trace_model import TraceModel

_SOURCE = Path(dumper.__file__)

_PROGRAM = """
import sys; sys.path.insert(0, sys.argv[1])
import numpy as np
from dump_trace import Dump
assert "regraft" not in sys.modules
rng = np.random.RandomState(0)
w = rng.randn(4, 3).astype("float32")
dump = Dump(sys.argv[2], model="tiny", framework="by hand", versions={"numpy": np.__version__})
for rows in (2, 5):
    x = rng.randn(rows, 4).astype("float32")
    dump.next_pass("rows=%d" % rows)
    dump.feed("x", x)
    a = x @ w
    dump.tap("a", a, operator="MatMul", inputs=["x", "w"])
    dump.tap("a", a > 0, operator="Greater", scope="net.act", inputs=["a"])
    y = np.maximum(a, 0)
    dump.tap("y", y, operator="Relu", inputs=["a"])
    dump.output("y", y)
dump.close()
"""


def test_a_copy_of_it_records_without_regraft(tmp_path):
    shutil.copy(_SOURCE, tmp_path)
    done = subprocess.run(
        [sys.executable, "-I", "-c", _PROGRAM, str(tmp_path), str(tmp_path / "run")], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    with open_package(f"trace:{tmp_path / 'run'}") as package:
        model = TraceModel(TraceFiles(package))
        cases = model.recorded_feeds()
        assert [case.name for case in cases] == ["rows=2", "rows=5"]
        w = np.random.RandomState(0).randn(4, 3).astype("float32")
        for case in cases:
            taps = list(model.trace(case.feeds))
            assert [(tap.name, tap.operator, tap.scope, tap.inputs) for tap in taps] == [
                ("a", "MatMul", "", ("x", "w")),
                ("a:1", "Greater", "net.act", ("a",)),
                ("y", "Relu", "", ("a",)),
            ]
            assert np.array_equal(taps[0].value, case.feeds["x"] @ w)  # the same product in the same numpy
            assert taps[1].value.dtype == bool
            assert np.array_equal(model(case.feeds)["y"], np.maximum(taps[0].value, 0))
        assert [port.shape for port in model.signature.inputs] == [(None, 4)]
        model.close()


def test_it_stays_small_and_old():
    text = _SOURCE.read_text()
    assert len([line for line in text.splitlines() if line.strip()]) <= 60
    tree = ast.parse(text, feature_version=(3, 6))
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    assert imported == {"hashlib", "json", "os", "numpy"}
    assert not [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]


def test_files_end_at_their_limit_and_any_reader_of_safetensors_reads_them(tmp_path):
    dump = dumper.Dump(str(tmp_path / "run"), file_bytes=100)
    arrays = [np.full((5,), number, dtype="float32") for number in range(12)]  # 20 bytes each, five a file
    for number, array in enumerate(arrays):
        dump.tap(f"t{number}", array)
    dump.close()
    files = sorted((tmp_path / "run").glob("*.safetensors"))
    assert [len(load_file(file)) for file in files] == [5, 5, 2]
    found = {name: array for file in files for name, array in load_file(file).items()}
    assert all(np.array_equal(found[f"0/taps/{number}"], array) for number, array in enumerate(arrays))


def test_many_small_taps_never_outgrow_the_header(tmp_path):
    dump = dumper.Dump(str(tmp_path / "run"))
    array = np.zeros((1,) * 32, dtype="float32")  # the longest shape that numpy had for long
    for number in range(dumper.MAX_TENSORS + 1):
        dump.tap(f"t{number}", array)
    dump.close()
    files = sorted((tmp_path / "run").glob("*.safetensors"))
    assert [len(load_file(file)) for file in files] == [dumper.MAX_TENSORS, 1]


@pytest.mark.parametrize("dtype", sorted(set(dumper.DTYPES) - {"bfloat16"}))
def test_every_dtype_comes_back(tmp_path, dtype):
    array = np.array([[0, 1], [2, 3]]).astype(dtype)
    dump = dumper.Dump(str(tmp_path / "run"))
    dump.tap("t", array.T)  # not contiguous
    dump.tap("scalar", array[1, 1])
    dump.close()
    with open_package(f"trace:{tmp_path / 'run'}") as package:
        found = {tap.name: tap.value for tap in TraceModel(TraceFiles(package)).trace({})}
    assert found["t"].dtype == dtype
    assert np.array_equal(found["t"], array.T)
    assert found["scalar"] == array[1, 1]


def test_bfloat16_is_read_as_float32(tmp_path):
    from ml_dtypes import bfloat16

    values = np.array([1.0, -0.15625, 3.4e38], dtype=bfloat16)
    dump = dumper.Dump(str(tmp_path / "run"), precision="bfloat16")
    dump.feed("x", values)
    dump.tap("t", values)
    dump.close()
    with open_package(f"trace:{tmp_path / 'run'}") as package:
        model = TraceModel(TraceFiles(package))
        (case,) = model.recorded_feeds()
        assert case.feeds["x"].dtype == np.float32
        assert np.array_equal(model(case.feeds)["t"], values.astype("float32"))


def test_what_is_no_array_of_numbers_is_refused(tmp_path):
    dump = dumper.Dump(str(tmp_path / "run"))
    with pytest.raises(KeyError, match="str"):
        dump.tap("t", np.array(["a"]))


def test_without_close_there_is_no_trace(tmp_path):
    dump = dumper.Dump(str(tmp_path / "run"))
    dump.tap("t", np.zeros(3))
    assert not (tmp_path / "run/trace.json").exists()
    dump.close()
    assert json.loads((tmp_path / "run/trace.json").read_text())["schema"] == "regraft.trace/1"
    with pytest.raises(FileExistsError):
        dumper.Dump(str(tmp_path / "run"))
