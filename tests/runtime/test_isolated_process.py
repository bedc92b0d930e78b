"""What a process that was taken over can do to its parent: nothing, but to end as an error that is safe to print."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from regraft.errors import Crashed, LimitExceeded, Unsupported
from regraft.runtime.isolated import IsolatedModel
from regraft.runtime.isolated_worker import Recipe

HERE = str(Path(__file__).parent)
X = {"x": np.ones(1, dtype="float32")}


@pytest.fixture
def hostile(monkeypatch: pytest.MonkeyPatch) -> Callable[..., IsolatedModel]:
    """Builds a model of `hostile_models`."""
    monkeypatch.syspath_prepend(HERE)
    return lambda name, **options: IsolatedModel(Recipe(f"hostile_models:{name}"), **options)


class SmallLaunch:
    """As the parent would start it, and said to hold little."""

    memory_bytes = 8 << 20

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def command(self) -> list[str]:
        boot = f"import sys; sys.path[:] = {sys.path!r}; from regraft.runtime.isolated_worker import main; main()"
        return [sys.executable, "-c", boot]

    def environment(self) -> dict[str, str]:
        return dict(os.environ)

    def close(self) -> None:
        pass


def test_who_reads_nothing_is_ended(hostile):
    model = hostile("Deaf", time_limit_s=3)
    model(X)
    with pytest.raises(Crashed, match="took in nothing for 3 s"):
        model({"x": np.ones(1 << 22, dtype="float32")})  # 16 MiB, more than any pipe holds
    assert np.array_equal(model(X)["y"], np.float32([2]))
    model.close()


def test_gigabytes_that_are_announced_take_no_memory_here():
    program = (
        "import resource, sys; sys.path[:0] = [sys.argv[1]]\n"
        "from test_isolated_process import IsolatedModel, Recipe, X\n"
        "from regraft.errors import Crashed\n"
        "model = IsolatedModel(Recipe('hostile_models:Announcing'), time_limit_s=2)\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "try:\n    model(X)\nexcept Crashed as error:\n    print(error)\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)\n"
    )
    done = subprocess.run([sys.executable, "-c", program, HERE], capture_output=True, text=True, check=True)
    says, grown_kib = done.stdout.splitlines()
    assert "said nothing for 2 s" in says
    assert int(grown_kib) < 100 << 10  # of 3 GB


def test_an_answer_larger_than_its_process_can_hold_is_a_lie(hostile, tmp_path):
    model = hostile("Announcing", launch=SmallLaunch(tmp_path))
    with pytest.raises(Crashed, match="arrays of 3000000000 bytes, where at most 8388608 can be"):
        model(X)
    model.close()


def test_the_arrays_of_an_answer_are_bounded_together(hostile):
    model = hostile("Announcing")
    with pytest.raises(Crashed, match="arrays of 300000000000 bytes"):  # each of them is within the bound
        model({"x": np.float32([100])})
    model.close()


def test_a_trace_without_an_end_is_not_kept_for_another_pass(hostile, tmp_path):
    model = hostile("Endless", launch=SmallLaunch(tmp_path))
    taps = model.trace(X)
    assert next(taps).name == "t"
    assert np.array_equal(model(X)["y"], np.float32([2]))
    with pytest.raises(LimitExceeded, match="taps take more than 8388608 bytes"):
        list(taps)
    model.close()


def test_its_words_do_not_steer_the_terminal(hostile):
    model = hostile("Painting")
    with pytest.raises(Unsupported) as raised:
        model(X)
    assert raised.value.what == "RuntimeError:  ]0;owned  red "
    with pytest.raises(Crashed) as raised:
        model({"x": np.float32([-1])})
    assert raised.value.what == "its process ended with status 3; its last words:  [31mbye "
    model.close()


def test_an_answer_to_another_question_is_a_crash(hostile):
    model = hostile("Evading")
    with pytest.raises(Crashed, match="Applied where Done was asked for"):
        model(X)
    with pytest.raises(Crashed, match="Done where Described was asked for"):
        hostile("undescribed")
    model.close()


def test_a_worker_outlives_the_thread_that_started_it(hostile, tmp_path):
    """What asks the kernel to end it with its parent, as a sandbox does, is not to end with a caller's thread."""

    class EndingWithParent(SmallLaunch):
        def command(self) -> list[str]:
            python, flag, boot = super().command()
            return [python, flag, f"import ctypes; ctypes.CDLL(None).prctl(1, 9, 0, 0, 0); {boot}"]

    made: list[IsolatedModel] = []
    thread = threading.Thread(target=lambda: made.append(hostile("Plain", launch=EndingWithParent(tmp_path))))
    thread.start()
    thread.join()
    (model,) = made
    pid = model._process._process.pid
    assert np.array_equal(model(X)["y"], np.float32([2]))
    assert model._process._process.pid == pid  # it was not started again
    model.close()
