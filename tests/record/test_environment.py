"""What evidence says about the place where it was made."""

from __future__ import annotations

import platform
import subprocess
import sys

from regraft.record.environment import capture_environment


def test_it_names_this_interpreter_and_at_least_one_thread() -> None:
    environment = capture_environment()
    assert environment.python == platform.python_version()
    assert environment.threads >= 1
    assert environment.cpu
    assert environment.isa


def test_capturing_imports_nothing_heavy() -> None:
    code = (
        "import sys; from regraft.record.environment import capture_environment as c; p = c().packages; "
        "print(p, [m for m in ('numpy', 'torch', 'onnx', 'sqlalchemy', 'yaml', 'rich') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "{} []"


def test_a_blocked_import_is_not_a_version(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    assert "torch" not in capture_environment().packages
