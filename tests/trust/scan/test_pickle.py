"""The rule family `pickle`: inert attack samples are caught, what libraries write passes, the rest is named.

No sample is ever unpickled. They are written opcode by opcode.
"""

from __future__ import annotations

import collections
import datetime
import io
import pickle
import re
import struct
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from regraft.package.formats import Probe, recognise
from regraft.package.formats.pickle_streams import PICKLE_FORMATS
from regraft.package.reader import BytesReader, FileReader
from regraft.record.evidence import Finding, Severity, Verdict, combine
from regraft.trust.scan.allowlist import allow_list
from regraft.trust.scan.interface import Site
from regraft.trust.scan.pickle import PickleFamily
from regraft.trust.scan.pickle_dangers import danger_of

ECHO = "echo pwned"


class Named:
    """Stands for a recognised format where the test is about one in particular."""

    def __init__(self, name: str) -> None:
        self.name = name


def examine(
    data: bytes, *, kind: str | None = "pickle", name: str = "x.pkl", inside: str | None = None
) -> list[Finding]:
    probe = Probe(BytesReader(data, where=name), name)
    form = recognise(probe) if kind is None else Named(kind)
    site = Site(name, None, probe, form, None, inside)  # type: ignore[arg-type]
    return list(PickleFamily().examine(site))


def verdict(data: bytes, **options: Any) -> Verdict:
    return combine([Verdict.PASS, *(finding.severity.verdict for finding in examine(data, **options))])


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value.encode())) + value.encode()


def name(module: str, attribute: str) -> bytes:
    return text(module) + text(attribute) + b"\x93"


def call(module: str, attribute: str, *arguments: str | bytes) -> bytes:
    """Opcodes that leave the result of a call on the stack; bytes among the arguments are opcodes themselves."""
    parts = b"".join(text(item) if isinstance(item, str) else item for item in arguments)
    return name(module, attribute) + b"(" + parts + b"tR"


def stream(*parts: bytes) -> bytes:
    return b"\x80\x04" + b"".join(parts) + b"."


BYTES = b"C\x04junk"
ATTACKS: dict[str, bytes] = {
    "computed name": stream(text("os"), call("builtins", "repr", "x"), b"\x93"),
    "protocol 0": b"cos\nsystem\n(S'echo pwned'\ntR.",
    "protocol 0, python 2 name": b"c__builtin__\neval\n(S'1'\ntR.",
    "python 2 module": b"ccommands\ngetoutput\n(S'echo'\ntR.",
    "INST": b"(S'echo pwned'\nios\nsystem\n.",
    "OBJ": b"(cos\nsystem\nS'echo pwned'\no.",
    "NEWOBJ": stream(name("subprocess", "Popen"), b"(", text(ECHO), b"t\x81"),
    "NEWOBJ_EX": stream(name("subprocess", "Popen"), b"(", text(ECHO), b"t}\x92"),
    "STACK_GLOBAL from the memo": stream(text("system"), b"\x940", text("os"), b"h\x00\x93)R"),
    "memo overwritten": b"\x80\x02cbuiltins\nprint\nq\x000cos\nsystem\nq\x000h\x00)R.",
    "posix": stream(call("posix", "system", ECHO)),
    "nt": stream(call("nt", "system", ECHO)),
    "eval": stream(call("builtins", "eval", "1")),
    "exec": stream(call("builtins", "exec", "pass")),
    "compile": stream(call("builtins", "compile", "1", "x", "eval")),
    "__import__": stream(call("builtins", "__import__", "os")),
    "import_module": stream(call("importlib", "import_module", "os")),
    "open": stream(call("builtins", "open", "/dev/null", "w")),
    "dotted": stream(call("collections", "_sys.modules", "os")),
    "dotted through a library": stream(call("torch.serialization", "os.system", ECHO)),
    "re-exported module's function": stream(call("numpy.f2py.crackfortran", "os.popen", ECHO)),
    "subclasses": stream(call("builtins", "object.__subclasses__")),
    "globals of a function": stream(call("collections", "OrderedDict.__init__.__globals__.get", "x")),
    "getattr over a global": stream(call("builtins", "getattr", name("os", "path"), "__dict__")),
    "getattr reaching system": stream(
        call("builtins", "getattr", name("posixpath", "os"), "system"), b"(", text(ECHO), b"tR"
    ),
    "attrgetter": stream(call("operator", "attrgetter", "system"), b"(", name("posixpath", "os"), b"tR"),
    "methodcaller": stream(call("operator", "methodcaller", "tofile", "/dev/null"), b"(Nt", b"R"),
    "partial": stream(call("functools", "partial", name("os", "system"), ECHO), b")R"),
    "map": stream(call("builtins", "map", name("os", "system"), b"]")),
    "reduce": stream(call("functools", "reduce", name("os", "system"), b"]")),
    "runpy": stream(call("runpy", "run_path", "/dev/null")),
    "pty": stream(call("pty", "spawn", "true")),
    "ctypes": stream(call("ctypes", "CDLL", "libc.so.6")),
    "socket": stream(call("socket", "create_connection", "127.0.0.1")),
    "urlopen": stream(call("urllib.request", "urlopen", "http://127.0.0.1")),
    "ssl": stream(call("ssl", "get_server_certificate", "127.0.0.1")),
    "webbrowser": stream(call("webbrowser", "open", "about:blank")),
    "shutil": stream(call("shutil", "rmtree", "/nonexistent")),
    "torch.hub": stream(call("torch.hub", "load", "x")),
    "torch.load": stream(call("torch", "load", "x")),
    "numpy.load": stream(call("numpy", "load", "x")),
    "pickle.loads": stream(call("pickle", "loads", BYTES)),
    "marshal": stream(call("marshal", "loads", BYTES)),
    "code object": stream(call("types", "CodeType"), b"0", name("types", "FunctionType"), b")R"),
    "runstring": stream(call("numpy.testing._private.utils", "runstring", "1", b"}")),
    "execWrapper": stream(call("torch.jit.unsupported_tensor_ops", "execWrapper", "1", b"}", b"}")),
    "profiler": stream(call("cProfile", "run", "1")),
    "timeit": stream(call("timeit", "timeit", "1")),
    "pip": stream(call("pip", "main", b"]")),
    "idlelib": stream(call("idlelib.pyshell", "ModifiedInterpreter.runcode", "1")),
    "uuid": stream(call("uuid", "_get_command_stdout", "true")),
    "smtplib": stream(call("smtplib", "SMTP", "127.0.0.1")),
    "logging.config": stream(call("logging.config", "dictConfig", b"}")),
    "asyncio": stream(call("asyncio.subprocess", "create_subprocess_shell", "true")),
    "unknown library, telltale name": stream(call("somelib.helpers", "check_output", "true")),
    "six": stream(call("six.moves.builtins", "eval", "1")),
    "hidden in a list": stream(b"](K\x01", call("os", "system", ECHO), b"e"),
    "hidden in a state": stream(
        name("collections", "OrderedDict"), b")R}", text("k"), call("os", "system", ECHO), b"sb"
    ),
    "dropped result": stream(call("os", "system", ECHO), b"0N"),
    "second stream": pickle.dumps([1]) + stream(call("os", "system", ECHO)),
    "broken end": stream(call("os", "system", ECHO))[:-1] + b"\xff\xff",
    "no STOP": stream(call("os", "system", ECHO))[:-1],
    "in front of a frame that is too long": b"\x80\x04\x95"
    + b"\xff" * 7
    + b"\x7f"
    + stream(call("os", "system", ECHO)),
    "jax's array, another function": stream(
        call("jax._src.array", "_reconstruct_array", name("os", "system"), b"(" + text(ECHO) + b"t", b")", b"}")
    ),
    "rebuild with another function": stream(
        call(
            "torch._tensor",
            "_rebuild_from_type_v2",
            name("os", "system"),
            name("torch", "Tensor"),
            b"(" + text(ECHO) + b"t",
            b"N",
        )
    ),
    "reconstructor": b"ccopy_reg\n_reconstructor\n(csubprocess\nPopen\nc__builtin__\nobject\nNtR.",
    "random generator with another constructor": stream(
        call("numpy.random._pickle", "__generator_ctor", ECHO, name("os", "system"))
    ),
    "class attribute": stream(name("torch.nn", "Module"), b"}", text("forward"), name("os", "system"), b"sb"),
    "module table": stream(name("sys", "modules"), text("os"), b"Ns"),
    "default factory": stream(call("collections", "defaultdict", name("os", "getcwd"))),
    "name in a dict": stream(b"}", text("hook"), name("subprocess", "call"), b"s"),
    "import that acts": stream(name("antigravity", "x")),
}
UNKNOWN: dict[str, bytes] = {
    "class of a stranger": stream(name("somelib.model", "Net"), b")\x81}b"),
    "function of a stranger": stream(call("somelib.model", "build", "x")),
    "standard library, not listed": stream(call("string", "capwords", "x")),
    "extension registry": b"\x80\x02\x82\x07)R.",
    "listed class, unusual call": stream(call("sklearn.svm._classes", "SVC", "x")),
    "truncated": pickle.dumps(list(range(1000)))[:-20],
    "codec": stream(call("_codecs", "encode", "x", "bz2")),
    "huge allocation": stream(call("builtins", "bytearray", b"J\xff\xff\xff\x7f")),
    "bound method": stream(call("builtins", "getattr", name("somelib.model", "Net"), "build")),
    "partial over a stranger": stream(call("functools", "partial", name("somelib.model", "act"))),
}


@pytest.mark.parametrize("sample", ATTACKS)
def test_attacks_fail(sample: str) -> None:
    assert verdict(ATTACKS[sample]) is Verdict.FAIL, [f.message for f in examine(ATTACKS[sample])]


@pytest.mark.parametrize("sample", ATTACKS)
def test_attacks_fail_under_whatever_format_they_are_recognised_as(sample: str) -> None:
    """Also when recognition decides, whatever the file is called: it must not make them invisible."""
    if sample in ("import that acts", "name in a dict", "module table", "class attribute", "default factory"):
        return  # nothing is called: only recognition as a pickle shows these
    assert verdict(ATTACKS[sample], kind=None, name="renamed.json") is Verdict.FAIL


@pytest.mark.parametrize("sample", UNKNOWN)
def test_what_nobody_knows_is_inconclusive(sample: str) -> None:
    assert verdict(UNKNOWN[sample]) is Verdict.INCONCLUSIVE, [f.message for f in examine(UNKNOWN[sample])]


def test_a_finding_says_what_would_run_and_where() -> None:
    data = stream(call("os", "system", ECHO))
    (finding,) = examine(data)
    assert finding.severity is Severity.CRITICAL
    assert (finding.data["call"], finding.data["args"]) == ("os.system", ECHO)
    assert data[finding.where.offset or 0 : (finding.where.offset or 0) + 1] == b"R"
    assert ECHO in finding.message


def test_an_unknown_global_is_named_exactly() -> None:
    (finding,) = examine(UNKNOWN["class of a stranger"])
    assert finding.data["global"] == "somelib.model.Net"
    assert finding.fix


def test_each_name_is_reported_once() -> None:
    data = stream(b"(", call("somelib", "A", "x") * 500, b"t")
    assert len(examine(data)) == 1


def plain_values() -> Iterator[Any]:
    yield {"a": [1, 2.0, "x", None, True, (1,), {2}, frozenset({3}), b"b", bytearray(b"c"), 1j]}
    yield collections.OrderedDict(
        a=collections.defaultdict(list), b=collections.Counter("aab"), c=collections.deque([1])
    )
    yield [datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC), datetime.timedelta(1), Path("x").parts]
    yield [
        np.zeros((2, 3)),
        np.float32(1),
        np.dtype("i8"),
        np.array([None, "x"], dtype=object),
        np.random.default_rng(1),
    ]
    yield np.ma.masked_array([1.0, 2.0], mask=[True, False])


@pytest.mark.parametrize("protocol", range(6))
def test_plain_values_pass(protocol: int) -> None:
    for value in plain_values():
        assert examine(pickle.dumps(value, protocol)) == []


@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
def test_fitted_estimators_pass(protocol: int) -> None:
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC

    x, y = np.random.default_rng(0).random((20, 3)), np.arange(20) % 2
    for last in (SVC(), LogisticRegression(), RandomForestClassifier(3), KNeighborsClassifier(algorithm="kd_tree")):
        model = make_pipeline(StandardScaler(), last).fit(x, y)
        assert examine(pickle.dumps(model, protocol)) == []


def test_a_function_inside_of_an_estimator_is_named() -> None:
    from sklearn.preprocessing import FunctionTransformer

    assert examine(pickle.dumps(FunctionTransformer(np.exp))) == []
    findings = examine(pickle.dumps(FunctionTransformer(np.apply_over_axes)))
    assert [finding.severity for finding in findings] == [Severity.UNKNOWN]
    assert findings[0].data["global"].endswith("apply_over_axes")  # type: ignore[union-attr]
    findings = examine(pickle.dumps(FunctionTransformer(np.load)))
    assert [finding.severity for finding in findings] == [Severity.HIGH]


def test_joblib_files_pass_and_attacks_between_their_arrays_do_not(tmp_path: Path) -> None:
    import joblib
    from sklearn.linear_model import LogisticRegression

    x = np.random.default_rng(0).random((200, 30))
    model = LogisticRegression().fit(x, x[:, 0] > 0.5)
    value = {
        "a": x,
        "m": model,
        "o": np.array([None, {"k": 1}], dtype=object),
        "f": np.asfortranarray(x),
        "u": np.arange(9, dtype="u2"),
    }
    joblib.dump(value, tmp_path / "m.joblib")
    data = (tmp_path / "m.joblib").read_bytes()
    assert examine(data, kind="joblib") == []
    with_attack = data[:-1] + call("os", "system", ECHO) + b"0."
    assert verdict(with_attack, kind="joblib") is Verdict.FAIL
    assert verdict(data[: len(data) // 2], kind="joblib") is Verdict.INCONCLUSIVE


def test_objects_within_a_joblib_array_are_judged(tmp_path: Path) -> None:
    import joblib

    joblib.dump([np.array([None, "marker"], dtype=object)], tmp_path / "m.joblib")
    data = (tmp_path / "m.joblib").read_bytes()
    start = data.index(b"\x80\x05", 10)
    end = data.index(b".", data.index(b"marker")) + 1
    attacked = data[:start] + stream(call("os", "system", ECHO)) + data[end:]
    assert verdict(attacked, kind="joblib") is Verdict.FAIL


def test_numpy_arrays_of_objects() -> None:
    out = io.BytesIO()
    np.save(out, np.array([None, 1], dtype=object), allow_pickle=True)
    assert examine(out.getvalue(), kind="numpy") == []
    start = out.getvalue().index(b"\n") + 1
    assert verdict(out.getvalue()[:start] + stream(call("os", "system", ECHO)), kind="numpy") is Verdict.FAIL
    out = io.BytesIO()
    np.save(out, np.zeros(3))
    assert examine(out.getvalue(), kind="numpy") == []


@pytest.mark.parametrize("legacy", [True, False])
def test_torch_checkpoints_pass(legacy: bool) -> None:
    import zipfile

    import torch

    module = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.BatchNorm2d(2))
    optimizer = torch.optim.AdamW(module.parameters())
    value = {"model": module.state_dict(), "optimizer": optimizer.state_dict(), "epoch": 3, "p": module[0].weight}
    out = io.BytesIO()
    torch.save(value, out, _use_new_zipfile_serialization=not legacy)
    if legacy:
        assert examine(out.getvalue(), kind="torch-legacy") == []
        return
    with zipfile.ZipFile(out) as archive:
        member = next(item for item in archive.namelist() if item.endswith("data.pkl"))
        assert examine(archive.read(member)) == []


def test_tensors_in_a_plain_pickle_are_followed_into_their_bytes() -> None:
    import torch

    data = pickle.dumps({"t": torch.zeros(2000)}, 4)
    assert examine(data) == []
    nested = pickle.dumps(0x1950A86A20F9469CFC6C, 2) + stream(call("os", "system", ECHO))
    attack = stream(call("torch.storage", "_load_from_bytes", b"B" + struct.pack("<I", len(nested)) + nested))
    (finding, *_) = examine(attack)
    assert finding.severity is Severity.CRITICAL


def test_torchscript_names_are_inert_only_inside_of_torchscript() -> None:
    data = stream(name("__torch__.model", "Net"), b")\x81}b")
    assert examine(data, inside="torchscript") == []
    assert verdict(data) is Verdict.INCONCLUSIVE


def test_bytes_after_the_stream_are_a_note() -> None:
    findings = examine(pickle.dumps({"a": 1}) + b"\0" * 100)
    assert [finding.severity for finding in findings] == [Severity.LOW]


def test_a_pickle_in_front_of_another_format_is_seen() -> None:
    import zipfile

    out = io.BytesIO(ATTACKS["protocol 0"])
    out.seek(0, io.SEEK_END)
    with zipfile.ZipFile(out, "a") as archive:
        archive.writestr("x", "y")
    assert verdict(out.getvalue(), kind="zip") is Verdict.FAIL


def test_the_allow_list_holds_nothing_that_can_run_code() -> None:
    names = allow_list()
    assert len(names) > 500
    for (module, attribute), uses in names._uses.items():
        if uses - {"reference"}:
            dangerous = danger_of(module, attribute)
            assert dangerous is None or (module, attribute) in {("torch.serialization", "_get_layout")}, (
                module,
                attribute,
            )
    for path in (
        "functools:partial",
        "operator:attrgetter",
        "builtins:getattr",
        "builtins:eval",
        "numpy:load",
        "torch:load",
    ):
        module, _, attribute = path.partition(":")
        assert not names.uses_of(module, attribute)


def test_names_of_older_versions_are_found() -> None:
    names = allow_list()
    assert names.allows("sklearn.tree.tree", "DecisionTreeClassifier", "newobj")
    assert names.allows("sklearn.svm.classes", "SVC", "newobj")
    assert names.allows("numpy.core.multiarray", "_reconstruct", "reduce")
    assert not names.allows("sklearn.tree.tree", "export_graphviz", "reduce")


def test_real_old_pickles(asset: Callable[[str, str, str], Path]) -> None:
    expected = {
        ("profanity-check", "1.0.3", "profanity_check/data/model.joblib"): set(),
        ("tiara", "1.0.2", "tiara/models/nnet-models/second_nnet_kmer_4.pkl"): set(),
        ("resemblyzer", "0.1.4", "resemblyzer/pretrained.pt"): set(),
    }
    for (package, version, path), unknown in expected.items():
        file = asset("pypi", package, version) / path
        probe = Probe(FileReader(file), path)
        form = recognise(probe)
        assert form is not None
        assert form.name in PICKLE_FORMATS
        findings = list(PickleFamily().examine(Site(path, None, probe, form, None, None)))
        assert {finding.data.get("global") for finding in findings} == unknown


def test_python_that_runs_the_tests_did_not_run_the_samples() -> None:
    assert "antigravity" not in sys.modules
    assert not re.search("pwned", Path(__file__).name)
