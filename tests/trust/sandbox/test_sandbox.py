"""Attacks from inside of the sandbox: each is really tried, and must be denied by the kernel."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from regraft.errors import PermitRefused
from regraft.runtime import seccomp
from regraft.trust.sandbox import Sandbox, landlock, missing
from regraft.trust.sandbox.confinement import Confinement

pytestmark = pytest.mark.skipif(bool(missing()), reason="; ".join(missing()))

RUN = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1])\n"
    "import ctypes, mmap, msgspec, os, resource, signal, socket, subprocess, threading, multiprocessing, fcntl\n"
    "from regraft.trust.sandbox.confinement import Confinement, enter\n"
    "if sys.argv[3:] != ['free']:\n    enter(msgspec.json.decode(sys.argv[2], type=Confinement))\n"
    "libc = ctypes.CDLL(None, use_errno=True)\n"
    "def call(*arguments):\n"
    "    if libc.syscall(*arguments) < 0:\n"
    "        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))\n"
    "told = {}\n"
    "for code in json.loads(sys.stdin.read()):\n"
    "    try:\n"
    "        exec(code)\n"
    "        told[code] = 'done'\n"
    "    except BaseException as error:\n"
    "        told[code] = f'{type(error).__name__}: {error}'\n"
    "print(json.dumps(told))\n"
)


def run(sandbox: Sandbox, attacks: list[str], *more: str, **limits: int) -> subprocess.CompletedProcess[str]:
    """Each attack in turn, in one process, confined unless `more` says `free`."""
    *start, _, paths, spec = sandbox.command()
    return subprocess.run(
        [*start, RUN, paths, json.dumps(json.loads(spec) | limits), *more],
        input=json.dumps(attacks),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env=dict(sandbox.environment()),
        cwd=sandbox.folder,
    )


def told(sandbox: Sandbox, attacks: list[str], *more: str) -> dict[str, str]:
    """Attack → `done`, or the error that it met."""
    done = run(sandbox, attacks, *more)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def not_denied(sandbox: Sandbox, attacks: list[str]) -> dict[str, str]:
    """Those to which the kernel did not say: not permitted, permission denied, or no such call."""
    denied = ("PermissionError: [Errno 1]", "PermissionError: [Errno 13]", "OSError: [Errno 38]")
    return {code: answer for code, answer in told(sandbox, attacks).items() if not answer.startswith(denied)}


@pytest.fixture
def sandbox():
    made = Sandbox(memory_bytes=512 << 20)
    yield made
    made.close()


def test_what_a_model_needs_it_may_do(sandbox):
    (sandbox.package / "config.json").write_text("{}")
    needed = [
        f"json.load(open({str(sandbox.package / 'config.json')!r}))",
        "open('a', 'w').write('x'); os.mkdir('folder'); os.rename('a', 'folder/b'); os.unlink('folder/b')",
        "import tempfile; tempfile.NamedTemporaryFile().write(b'x')",
        "import decimal, sqlite3, ssl",
        "threads = [threading.Thread(target=sum, args=([1],)) for _ in range(8)]; [t.start() for t in threads]",
        "bytearray(1 << 28)",
        "os.getrandom(8); open('/dev/null', 'w').write('x'); os.cpu_count(); os.sched_getaffinity(0)",
        "os.kill(os.getpid(), 0)",
        "call(157, 15, b'name', 0, 0, 0)  # prctl: the thread's name",
    ]
    assert set(told(sandbox, needed).values()) == {"done"}


def test_there_is_no_network_and_no_other_process(sandbox, tmp_path):
    unix = str(tmp_path / "socket")
    parent = os.getpid()
    attacks = [
        "socket.socket(socket.AF_INET, socket.SOCK_STREAM)",
        "socket.socket(socket.AF_INET, socket.SOCK_DGRAM)",
        "socket.socket(socket.AF_INET6)",
        f"socket.socket(socket.AF_UNIX).connect({unix!r})",
        "socket.socket(socket.AF_NETLINK, socket.SOCK_RAW)",
        "socket.socket(socket.AF_PACKET, socket.SOCK_RAW)",
        "socket.socket(socket.AF_VSOCK)",
        "socket.socketpair()",
        "socket.create_connection(('127.0.0.1', 9))",
        "call(0x40000000 | 41, 2, 1, 0)  # socket by its x32 number",
        "call(425, 8, bytes(120))  # io_uring_setup, which would open sockets by itself",
        "os.fork()",
        "os.forkpty()",
        "subprocess.run(['/bin/true'])",
        "os.execv('/bin/true', ['true'])",
        "os.posix_spawn('/bin/true', ['true'], {})",
        "multiprocessing.Process(target=print).start()",
        "call(56, 0x11, 0, 0, 0, 0)  # clone: a process",
        "call(56, 0x10000 | 0x800 | 0x100 | 0x10000000, 0, 0, 0, 0)  # clone: a thread in a new user namespace",
        "call(435, bytes(88), 88)  # clone3",
        f"call(101, 16, {parent}, 0, 0)  # ptrace: attach",
        f"call(310, {parent}, bytes(16), 1, bytes(16), 1, 0)  # process_vm_readv",
        f"os.kill({parent}, 0)",
        "os.kill(-1, 0)",
        f"call(234, {parent}, {parent}, 0)  # tgkill",
        f"os.pidfd_open({parent})",
        f"resource.prlimit({parent}, resource.RLIMIT_CPU)",
        f"fcntl.fcntl(0, 8, {parent})  # F_SETOWN: signals to another when a file is ready",
        f"open('/proc/{parent}/environ', 'rb')",
        f"open('/proc/{parent}/mem', 'rb')",
        "open('/proc/self/environ', 'rb')",
        "os.listdir('/proc')",
    ]
    assert not_denied(sandbox, attacks) == {}


def test_the_users_files_are_out_of_reach(sandbox, tmp_path):
    secret = tmp_path / ".ssh" / "id_rsa"
    secret.parent.mkdir()
    secret.write_text("secret")
    secret.chmod(0o644)
    (sandbox.package / "weights.bin").write_bytes(b"1234")
    own, outside = str(sandbox.package / "weights.bin"), str(tmp_path / "new")
    attacks = [
        f"open({str(secret)!r}).read()",
        f"os.open({str(secret)!r}, os.O_RDWR | os.O_CREAT)",
        f"os.listdir({str(tmp_path)!r})",
        f"os.listdir({str(Path.home())!r})",
        "os.listdir('/'); os.listdir('/tmp')",
        "open('/etc/passwd').read()",
        f"os.symlink({str(secret)!r}, 'link'); open('link').read()",
        f"os.link({str(secret)!r}, 'hard')",
        f"os.rename({str(secret)!r}, 'moved')",
        f"open({str(secret)!r}, 'a')",
        f"open({str(secret)!r}, 'w')",
        f"os.truncate({str(secret)!r}, 0)",
        f"os.unlink({str(secret)!r})",
        f"os.chmod({str(secret)!r}, 0)",
        f"os.chown({str(secret)!r}, 1, 1)",
        f"os.utime({str(secret)!r})",
        f"os.setxattr({str(secret)!r}, 'user.x', b'1')",
        f"open({outside!r}, 'w')",
        f"os.mkdir({outside!r})",
        "os.mkfifo('fifo')",
        "os.mknod('device', 0o20666, os.makedev(1, 1))",
        "open('/dev/shm/x', 'w')",
        "open('/dev/tty')",
        f"open({own!r}, 'r+b')",
        f"os.truncate({own!r}, 0)",
        f"os.unlink({own!r})",
        f"open({str(sandbox.package / 'more.py')!r}, 'w')",
        "call(165, b'none', b'.', b'tmpfs', 0, 0)  # mount",
        "call(161, b'.')  # chroot",
        "call(272, 0x10000000)  # unshare: a user namespace",
        "call(304, 0, bytes(16), 0)  # open_by_handle_at",
        "call(321, 0, bytes(64), 64)  # bpf",
        "call(319, b'x', 0)  # memfd_create",
    ]
    assert not_denied(sandbox, attacks) == {}
    assert secret.read_text() == "secret"
    assert not Path(outside).exists()
    assert list(sandbox.package.iterdir()) == [sandbox.package / "weights.bin"]


def test_the_attacks_are_real(sandbox, tmp_path):
    """Without the sandbox the same process, in the same place, does all of this."""
    (tmp_path / "secret").write_text("secret")
    attacks = [
        "socket.socket(socket.AF_INET, socket.SOCK_STREAM)",
        "socket.socketpair()",
        "subprocess.run(['/bin/true'])",
        f"open({str(tmp_path / 'secret')!r}).read()",
        f"open({str(tmp_path / 'secret')!r}, 'w')",
        f"os.kill({os.getpid()}, 0)",
        "open('/proc/self/environ', 'rb')",
        "mmap.mmap(-1, 1 << 20)",
    ]
    assert set(told(sandbox, attacks, "free").values()) == {"done"}
    assert "done" not in told(sandbox, attacks).values()


def test_nothing_of_it_can_be_undone(sandbox, tmp_path):
    (tmp_path / "secret").write_text("secret")
    limits = ("CPU", "DATA", "STACK", "FSIZE", "NOFILE", "NPROC", "CORE")
    raises = [f"resource.setrlimit(resource.RLIMIT_{name}, (1 << 60, 1 << 60))" for name in limits]
    assert set(told(sandbox, raises).values()) == {"ValueError: not allowed to raise maximum limit"}
    attacks = [
        "call(126, bytes([0x22, 5, 8, 0x20, 0, 0, 0, 0]), b'\\xff' * 24)  # capset: all of them again",
        "os.setuid(1)",
        "libc.prctl(22, 0, 0, 0, 0) and call(0xffff)  # seccomp: off",
        "call(157, 1, 0, 0, 0, 0)  # prctl: outlive the parent",
        "call(157, 4, 1, 0, 0, 0)  # prctl: a debugger may look in",
        "call(157, 0x59616d61, -1, 0, 0, 0)  # prctl: any may trace",
        # a wider ruleset of Landlock does not widen the first; open() must go on failing
        "call(444, (1).to_bytes(8, 'little'), 8, 0)",
        f"open({str(tmp_path / 'secret')!r})",
    ]
    assert not_denied(sandbox, attacks) == {}


def test_the_environment_is_empty(sandbox, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "secret")
    monkeypatch.setenv("PYTHONPATH", "/somewhere")
    code = "import pathlib; pathlib.Path('seen').write_text(json.dumps(dict(os.environ)))"
    assert told(sandbox, [code]) == {code: "done"}
    seen = json.loads((sandbox.folder / "seen").read_text())
    assert set(seen) <= {*sandbox.environment(), "LC_CTYPE"}
    assert seen["HOME"] == str(sandbox.folder)


def test_memory_is_limited_also_where_it_is_shared(sandbox):
    attacks = [
        "bytearray(1 << 30)",
        "keep = [bytearray(1 << 26) for _ in range(100)]",
        "mmap.mmap(-1, 1 << 20)  # shared and anonymous, which no limit would count",
        "mmap.mmap(-1, 1 << 30, flags=0x122)  # grows down as a stack does, the same",
        "mmap.mmap(os.open('/dev/zero', os.O_RDONLY), 1 << 30, access=mmap.ACCESS_READ)  # shared, by a device",
    ]
    assert [answer.partition(":")[0] for answer in told(sandbox, attacks).values()] == [
        "MemoryError", "MemoryError", "PermissionError", "PermissionError", "PermissionError",
    ]  # fmt: skip


def test_threads_take_of_the_same_memory(sandbox):
    bomb = (
        "wait = threading.Event()\nfor _ in range(20000):\n    threading.Thread(target=wait.wait, daemon=True).start()"
    )
    assert "can't start new thread" in told(sandbox, [bomb])[bomb]


def test_a_worker_that_computes_for_ever_is_killed(sandbox):
    assert run(sandbox, ["while True: pass"], cpu_s=1).returncode in (-signal.SIGXCPU, -signal.SIGKILL)


def test_a_file_cannot_grow_without_bound(sandbox):
    done = run(sandbox, ["open('x', 'wb').write(bytes(1 << 21))"], file_bytes=1 << 20)
    assert "OSError" in done.stdout or done.returncode == -signal.SIGXFSZ
    assert (sandbox.folder / "x").stat().st_size <= 1 << 20


def test_the_folders_go_with_the_sandbox():
    sandbox = Sandbox()
    sandbox.close()
    assert not sandbox.package.parent.exists()


def test_it_ends_with_its_parent_whatever_it_does():
    """The parent is killed outright; nothing in the confined process looks for it."""
    program = (
        "import json, os, subprocess, sys\n"
        "from regraft.trust.sandbox import Sandbox\n"
        "sandbox = Sandbox(memory_bytes=512 << 20)\n"
        "*start, _, paths, spec = sandbox.command()\n"
        "say = 'print(os.getpid(), flush=True); import time; time.sleep(600)'\n"
        "command = [*start, sys.argv[1], paths, spec]\n"
        "subprocess.run(command, input=json.dumps([say]).encode(), env=sandbox.environment())\n"
    )
    with subprocess.Popen([sys.executable, "-c", program, RUN], stdout=subprocess.PIPE, text=True) as parent:
        child = int(parent.stdout.readline())
        parent.send_signal(signal.SIGKILL)
    status = Path(f"/proc/{child}/status")
    for _ in range(100):
        if not status.exists() or "State:\tZ" in status.read_text():
            return
        time.sleep(0.1)
    os.kill(child, signal.SIGKILL)
    pytest.fail("it is still there ten seconds after its parent")


def test_a_parent_that_is_gone_already_is_noticed(sandbox):
    done = run(sandbox, ["pass"], parent=1 << 30)
    assert "who started it is gone" in done.stderr
    assert done.returncode == 1


def test_who_has_entered_it_says_so_and_nobody_else(sandbox):
    code = "from regraft.runtime.launch import is_confined; assert is_confined()"
    assert told(sandbox, [code]) == {code: "done"}
    assert told(sandbox, [code], "free") == {code: "AssertionError: "}


def test_folders_of_programs_that_were_killed_are_removed_by_the_next_start(monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    living = Sandbox()
    program = "import os; from regraft.trust.sandbox import Sandbox; made = Sandbox(); os.kill(os.getpid(), 9)"
    subprocess.run([sys.executable, "-c", program], check=False, env={**os.environ, "TMPDIR": str(tmp_path)})
    (tmp_path / "regraft-sandbox-in-the-making").mkdir()
    (tmp_path / "regraft-sandbox-of-long-ago").mkdir()
    os.utime(tmp_path / "regraft-sandbox-of-long-ago", (0, 0))
    (tmp_path / "kept").mkdir()
    (tmp_path / "regraft-sandbox-link").symlink_to(tmp_path / "kept")
    assert len(list(tmp_path.iterdir())) == 6
    another = Sandbox()
    assert set(tmp_path.iterdir()) == {
        living.package.parent, another.package.parent, tmp_path / "regraft-sandbox-in-the-making", tmp_path / "kept",
        tmp_path / "regraft-sandbox-link",
    }  # fmt: skip
    living.close()
    another.close()


def test_machines_that_cannot_confine_refuse_code(monkeypatch):
    monkeypatch.setattr(landlock, "abi", lambda: 2)
    with pytest.raises(PermitRefused, match=r"this machine has none: Landlock of version 3.*has version 2"):
        Sandbox()
    monkeypatch.setattr(seccomp.platform, "machine", lambda: "riscv64")
    assert len(missing()) == 2
    monkeypatch.setattr(sys, "platform", "darwin")
    assert missing() == ["darwin has neither Landlock nor seccomp"]


def test_the_folder_of_the_users_program_is_no_library(monkeypatch, tmp_path, sandbox):
    monkeypatch.syspath_prepend(str(tmp_path))
    *_, paths, spec = sandbox.command()
    assert str(tmp_path) not in json.loads(paths)
    readable = Confinement(**json.loads(spec)).readable
    assert not any(Path.home().is_relative_to(path) or tmp_path.is_relative_to(path) for path in readable)
