"""Scripts that crash, hang, take memory, change their input or ask for the network are stopped, and told apart."""

from __future__ import annotations

import errno
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from regraft.deployment.convert.foreign import Limits, Made, run_by, run_script
from regraft.deployment.convert.interface import Source
from regraft.errors import Crashed, DigestMismatch, MissingEnvironment, Unsupported, UsageError
from regraft.package.package import open_package
from regraft.runtime import seccomp
from regraft.runtime.verified import VerifiedFiles

CONTENT = b"three words here"


@pytest.fixture
def source(tmp_path: Path) -> Iterator[Source]:
    """A package of two files, of which the first is converted."""
    folder = tmp_path / "package"
    folder.mkdir()
    (folder / "model.bin").write_bytes(CONTENT)
    (folder / "weights.bin").write_bytes(b"beside it")
    with open_package(folder) as package:
        yield Source(None, (), VerifiedFiles(package), "model.bin", "model.bin")


def ran(tmp_path: Path, source: Source, body: str, limits: Limits | None = None, **options: str) -> Made:
    """Run a script in this very interpreter's environment."""
    script = tmp_path / "trial.py"
    lines = "\n".join(f"    {line}" for line in body.strip().splitlines())
    script.write_text(f"import os, time\n\ndef convert(model, out, options):\n{lines}\n")
    return run_by(Path(sys.executable), script, source, options, limits=limits)


def test_what_a_script_makes_comes_back_whole(tmp_path: Path, source: Source) -> None:
    made = ran(
        tmp_path,
        source,
        """
        words = open(model).read() + options["more"]
        os.makedirs(os.path.join(out, "inner"))
        open(os.path.join(out, "inner", "a.bin"), "w").write("beside")
        open(os.path.join(out, "model.txt"), "w").write(words)
        assert os.path.exists(os.path.join(os.path.dirname(model), "weights.bin"))
        return {"model": "model.txt", "notes": ["upper"], "versions": {"it": 1}}
        """.replace("        ", ""),
        more="!",
    )
    assert list(made.files.items()) == [("model.txt", CONTENT + b"!"), ("inner/a.bin", b"beside")]
    assert (made.notes, made.versions) == (("upper",), {"it": "1"})


def test_it_sees_nothing_of_the_users_settings(tmp_path: Path, source: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_TOKEN", "x")
    body = 'assert "SECRET_TOKEN" not in os.environ\nassert os.environ["HOME"] != options["home"]\nreturn {}'
    with pytest.raises(Unsupported, match="made no model"):
        ran(tmp_path, source, body, home=str(Path.home()))


@pytest.mark.parametrize(
    ("body", "error", "words"),
    [
        ("raise ValueError('no such operator: Foo')", Unsupported, "ValueError: no such operator: Foo"),
        ("os.kill(os.getpid(), 11)", Crashed, "signal 11"),
        ("os._exit(3)", Crashed, "status 3"),
        ("time.sleep(60)", Crashed, "did not end within 1 s"),
        ("open(model, 'a').write('!')", DigestMismatch, "changed its input model.bin"),
        ("os.remove(os.path.join(os.path.dirname(model), 'weights.bin'))", DigestMismatch, "weights.bin"),
        ("open(os.path.join(os.path.dirname(model), 'new'), 'w').close()", DigestMismatch, "changed its input new"),
        ("import socket; socket.create_connection(('127.0.0.1', 9))", Unsupported, "asked for the network"),
        ("import socket; socket.getaddrinfo('localhost', 80)", Unsupported, "asked for the network"),
        ("os.symlink('/etc/hosts', os.path.join(out, 'm')); return {'model': 'm'}", Unsupported, "made no m"),
        ("return None", Unsupported, "returned no answer as it should be: Expected `object`, got `null`"),
        ("return {'model': 3}", Unsupported, "returned no answer as it should be: .*`\\$.model`"),
        ("return {'notes': [[]]}", Unsupported, "returned no answer as it should be: .*notes"),
        (r"raise ValueError('\x1b]0;owned\x07')", Unsupported, "ValueError:  ]0;owned $"),
    ],
)
def test_what_goes_wrong_is_told_apart(
    tmp_path: Path, source: Source, body: str, error: type[Exception], words: str
) -> None:
    # only the script that sleeps is to meet the limit: an interpreter alone takes a tenth of a second to start
    limits = Limits(seconds=1) if "sleep" in body else None
    with pytest.raises(error, match=words):
        ran(tmp_path, source, body if "return" in body else f"{body}\nreturn {{}}", limits)
    assert (tmp_path / "package" / "model.bin").read_bytes() == CONTENT
    assert sorted(path.name for path in (tmp_path / "package").iterdir()) == ["model.bin", "weights.bin"]


SOCKETS = """
import ctypes, json, socket
told = {}
for family in ("AF_INET", "AF_INET6", "AF_NETLINK", "AF_UNIX"):
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_RAW):
        try:
            socket.socket(getattr(socket, family), kind).close()
            told[family] = told.get(family, 0) + 1
        except OSError:
            pass
libc = ctypes.CDLL(None, use_errno=True)
told["io_uring"] = libc.syscall(425, 8, bytes(120)), ctypes.get_errno()
print(json.dumps(told))
"""
ASKS = """
import subprocess, sys
child = subprocess.run([sys.executable, "-c", options["program"]], capture_output=True, text=True)
open(os.path.join(out, "m"), "w").write(child.stdout)
return {"model": "m"}
"""


@pytest.mark.skipif(not seccomp.is_available(), reason="this kernel has no filters that are known here")
def test_what_a_script_starts_has_no_network_either(tmp_path: Path, source: Source) -> None:
    free = subprocess.run([sys.executable, "-c", SOCKETS], capture_output=True, text=True, check=True)
    assert json.loads(free.stdout)["AF_INET"] >= 2  # stream and datagram, where nobody forbids it
    told = json.loads(ran(tmp_path, source, ASKS, program=SOCKETS).files["m"])
    assert told == {"AF_UNIX": 3, "io_uring": [-1, errno.ENOSYS]}


@pytest.mark.parametrize("end", ["return {}", "os._exit(0)"])
def test_what_a_script_leaves_running_is_ended_with_it(tmp_path: Path, source: Source, end: str) -> None:
    body = (
        "import subprocess, sys\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        "open(options['pid'], 'w').write(str(child.pid))\n"
    )
    place = tmp_path / "pid"
    with pytest.raises((Unsupported, Crashed)):
        ran(tmp_path, source, body + end, pid=str(place))
    assert ends(int(place.read_text()))


def ends(pid: int) -> bool:
    """Whether a killed process is gone once the kernel has got round to it."""
    status = Path(f"/proc/{pid}/status")
    for _ in range(100):
        if not status.exists() or "zombie" in status.read_text():
            return True
        time.sleep(0.1)
    return False


def test_one_that_takes_too_much_memory_is_ended_with_its_children(tmp_path: Path, source: Source) -> None:
    body = """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "x = bytearray(400 << 20); import time; time.sleep(60)"])
open(options["pid"], "w").write(str(child.pid))
child.wait()
"""
    place = tmp_path / "pid"
    with pytest.raises(Crashed, match="more than 200 MiB"):
        ran(tmp_path, source, body, Limits(seconds=50, memory_mb=200), pid=str(place))
    assert ends(int(place.read_text()))


def test_an_environment_that_was_not_made_is_named_with_the_command_that_makes_it(source: Source) -> None:
    with pytest.raises(MissingEnvironment) as raised:
        run_script("tensorflow", "onnx_from_tensorflow", source)
    assert "regraft doctor --environment tensorflow" in raised.value.hint


def test_an_unknown_environment_is_an_error_of_whoever_names_it(source: Source) -> None:
    with pytest.raises(UsageError, match="there is no environment 'none'"):
        run_script("none", "x", source)
