from __future__ import annotations

import json
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from regraft.errors import AccessDenied, Damaged, LimitExceeded, RegraftError, Unsupported, UsageError
from regraft.package.formats import Port
from regraft.package.package import open_package
from regraft.runtime.dump_trace import HEADER_BYTES, Dump
from regraft.runtime.feeds import FeedCase, generated_feeds
from regraft.runtime.interface import Tap, TapStatistics
from regraft.runtime.torch_module import TorchModel
from regraft.runtime.trace_files import TraceFiles, record_pass, write_trace
from regraft.workflow.load import load


@pytest.fixture
def network() -> TorchModel:
    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.GELU(), torch.nn.Linear(8, 3))
    return TorchModel(module, inputs=[Port("input", "float32", ("batch", 4))], where="tiny")


@pytest.fixture
def recorded(tmp_path: Path) -> Path:
    """A folder of one pass with two taps."""
    dump = Dump(str(tmp_path / "run"))
    dump.feed("x", np.ones((2, 3), "float32"))
    dump.tap("a", np.zeros((2, 3), "float32"), "Relu")
    dump.tap("b", np.arange(4), "Cast")
    dump.close()
    return tmp_path / "run"


def _rewritten(folder: Path, change: Callable[[dict], object]) -> str:
    index = json.loads((folder / "trace.json").read_text())
    change(index)
    (folder / "trace.json").write_text(json.dumps(index))
    return f"trace:{folder}"


def test_what_a_model_computes_comes_back(tmp_path, network):
    cases = list(generated_feeds(network.signature))
    write_trace(tmp_path / "run", network, cases)
    again = load(f"trace:{tmp_path / 'run'}")
    assert again.effective_precision == "float32"
    assert [case.name for case in again.recorded_feeds()] == [case.name for case in cases]
    for case in cases:
        assert np.array_equal(again(case.feeds)["output_0"], network(case.feeds)["output_0"])
        live, kept = list(network.trace(case.feeds)), list(again.trace(case.feeds))
        assert [(t.name, t.operator, t.scope) for t in live] == [(t.name, t.operator, t.scope) for t in kept]
        assert all(np.array_equal(a.value, b.value) for a, b in zip(live, kept, strict=True))
    again.close()


def test_silero_comes_back_with_its_scalar_input_and_its_branches(tmp_path, silero):
    model = load(f"{silero}silero_vad.onnx", threads=1)
    rng = np.random.default_rng(0)
    sound = (0.1 * rng.standard_normal((1, 576))).astype("float32")  # 512 samples after 64 of context
    feeds = {"input": sound, "state": np.zeros((2, 1, 128), "float32"), "sr": np.array(16000)}
    write_trace(tmp_path / "run", model, [FeedCase("noise", feeds, "data")])
    again = load(f"trace:{tmp_path / 'run'}")
    assert again.recorded_feeds()[0].feeds["sr"].shape == ()
    for name, value in model(feeds).items():
        assert np.array_equal(again(feeds)[name], value)
    assert [tap.name for tap in again.trace(feeds)] == [tap.name for tap in model.trace(feeds)]
    with pytest.raises(Unsupported, match="none of the 1"):
        again({**feeds, "sr": np.array(8000)})
    again.close()


def test_inputs_may_stay_at_home(tmp_path, network):
    secret = {"input": np.random.default_rng(0).standard_normal((3, 4)).astype("float32")}
    write_trace(tmp_path / "run", network, [FeedCase("mine", secret, "data")], keep_inputs=False)
    again = load(f"trace:{tmp_path / 'run'}")
    assert not again.has_inputs
    with pytest.raises(Unsupported, match="only their digest"):
        again.recorded_feeds()
    assert np.array_equal(again(secret)["output_0"], network(secret)["output_0"])
    kept = b"".join(file.read_bytes() for file in (tmp_path / "run").iterdir())
    assert secret["input"].tobytes() not in kept


def test_writing_holds_one_tap_at_a_time(tmp_path):
    """200 taps of 8 MiB would be 1.6 GB; the writer's process may not grow by a tenth of that."""
    program = (
        "import sys, resource, numpy as np\n"
        "from regraft.runtime.dump_trace import Dump\n"
        "from regraft.runtime.interface import Tap\n"
        "from regraft.runtime.trace_files import record_pass\n"
        "dump = Dump(sys.argv[1])\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "record_pass(dump, (Tap(f't{i}', 'Op', '', i, value=np.full(1 << 21, i, 'float32')) for i in range(200)))\n"
        "dump.close()\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)\n"
    )
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path / "run")], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) * 1024 < 160 << 20
    sizes = [file.stat().st_size for file in sorted((tmp_path / "run").glob("*.safetensors"))]
    assert sizes[0] == 8 + HEADER_BYTES + (32 << 23)  # 32 taps of 8 MiB are 256 MiB
    assert len(sizes) == 7
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with open_package(f"trace:{tmp_path / 'run'}") as package:
        files = TraceFiles(package)
        assert files.array(files.index.passes[0].taps[150])[0] == 150
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 < 64 << 20


def test_statistics_are_no_taps_to_write(tmp_path):
    tap = Tap("t", "Op", "", 0, kept=TapStatistics((1,), "float32", 0, 0, 0))
    with pytest.raises(UsageError, match="no value"):
        record_pass(Dump(str(tmp_path / "run")), [tap])


def test_a_folder_that_exists_is_not_written_into(tmp_path, network):
    with pytest.raises(AccessDenied, match="must be new"):
        write_trace(tmp_path, network, [])


def _first_array(ref: str) -> np.ndarray:
    with open_package(ref) as package:
        files = TraceFiles(package)
        return files.array(files.index.passes[0].taps[0])


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        (lambda i: i.update(schema="regraft.trace/9"), Unsupported, "schema"),
        (lambda i: i.update(passes=[]), Damaged, "no pass"),
        (lambda i: i["passes"][0].update(taps=[]), Damaged, "neither"),
        (lambda i: i["passes"][0]["taps"].append(i["passes"][0]["taps"][0]), Damaged, "twice"),
        (lambda i: i["passes"][0]["taps"][0].update(file="../../secret.safetensors"), Damaged, "no file of the trace"),
        (lambda i: i["passes"][0]["taps"][0].update(file="/etc/passwd"), Damaged, "no file of the trace"),
        (lambda i: i["passes"][0]["taps"][0].update(file="trace.json"), Damaged, "header"),
        (lambda i: i["passes"][0]["taps"][0].update(shape=[3, 2]), Damaged, "should be"),
        (lambda i: i["passes"][0]["taps"][0].update(shape=[1 << 62, 0]), Damaged, "should be"),
        (lambda i: i["passes"][0]["taps"][0].update(dtype="float8_e4m3fn"), Unsupported, "float8_e4m3fn"),
        (lambda i: i["passes"][0]["taps"][0].update(dtype="object"), Unsupported, "object"),
        (lambda i: i["passes"][0]["taps"][0].update(key="9/taps/9"), Damaged, "nothing"),
        (lambda i: i["passes"][0]["taps"][0].update(name=7), Damaged, "name"),
        (lambda i: i["passes"][0].update(taps="all"), Damaged, "taps"),
    ],
)
def test_a_hostile_index_is_told_in_one_sentence(recorded, change, error, says):
    ref = _rewritten(recorded, change)
    with pytest.raises(error, match=says):
        _first_array(ref)


def test_a_link_out_of_the_folder_is_not_followed(recorded, tmp_path):
    real = recorded / "tensors-00001.safetensors"
    real.rename(tmp_path / "outside.safetensors")
    real.symlink_to(tmp_path / "outside.safetensors")
    with pytest.raises(Damaged, match="no file of the trace"):
        _first_array(f"trace:{recorded}")


def test_a_file_that_is_cut_off_is_told(recorded):
    file = recorded / "tensors-00001.safetensors"
    file.write_bytes(file.read_bytes()[:-5])
    with pytest.raises(Damaged, match="truncated"):
        _first_array(f"trace:{recorded}")


def test_an_index_without_end_is_told(recorded):
    (recorded / "trace.json").write_bytes(b'{"schema": "regraft.trace/1", "passes": [' + b"[" * 100_000)
    with open_package(f"trace:{recorded}") as package, pytest.raises(Damaged):
        TraceFiles(package)
    with (recorded / "trace.json").open("r+b") as file:
        file.truncate(65 << 20)
    with open_package(f"trace:{recorded}") as package, pytest.raises(LimitExceeded):
        TraceFiles(package)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_no_bytes_raise_anything_but_our_errors(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("fuzz")
    dump = Dump(str(folder / "run"))
    dump.tap("a", np.zeros((2, 3), "float32"))
    dump.close()
    name = data.draw(st.sampled_from(["trace.json", "tensors-00001.safetensors"]))
    content = bytearray((folder / "run" / name).read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, min(len(content) - 1, 400)))] = data.draw(st.integers(0, 255))
    (folder / "run" / name).write_bytes(content)
    try:
        with open_package(f"trace:{folder / 'run'}") as package:
            files = TraceFiles(package)
            for kept in files.index.passes[0].taps:
                files.array(kept)
    except RegraftError:
        pass
