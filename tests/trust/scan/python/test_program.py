from __future__ import annotations

import pytest

from regraft.trust.scan.python.effects import Kind
from regraft.trust.scan.python.program import Phase, Program


def shells(source: str, class_name: str | None = None, **others: str) -> set[Phase]:
    """When `m.py` starts a shell."""
    program = Program({"m.py": source, **{f"{name}.py": text for name, text in others.items()}})
    return {run.phase for run in program.reach([("m.py", class_name)]) if run.effect.kind is Kind.SHELL}


@pytest.mark.parametrize(
    "source",
    [
        "import os\nos.system('x')",
        "import os\nif True:\n    try:\n        os.system('x')\n    except E: pass",
        "import os\nclass A:\n    x = os.system('x')",
        "import os\ndef f(x=os.system('x')): pass",
        "import os\ndef f():\n    os.system('x')\nf()",
        "import os\ndef f(g):\n    os.system('x')\n@f\ndef h(): pass",
        "import os\n@os.system\ndef h(): pass",
        "import os\nclass A:\n    def __init__(self): os.system('x')\nA()",
        "import os\nclass M(type):\n    def __new__(c, *a): os.system('x')\nclass A(metaclass=M): pass",
        "import os\nclass B:\n    def __init_subclass__(c): os.system('x')\nclass A(B): pass",
        "import os\n(lambda: os.system('x'))()",
        "import os\n[os.system(c) for c in 'x']",
        "import os\nx: os.system('x') = 1",
        "import os\nfrom contextlib import contextmanager\nwith f(os.system('x')): pass",
    ],
)
def test_what_runs_at_import(source):
    assert Phase.IMPORT in shells(source)


@pytest.mark.parametrize(
    "source",
    [
        "import os\nif __name__ == '__main__':\n    os.system('x')",
        "import os\ndef f():\n    os.system('x')",
        "from typing import TYPE_CHECKING\nimport os\nif TYPE_CHECKING:\n    os.system('x')",
        "import os\nclass A:\n    def forward(self): os.system('x')",
    ],
)
def test_what_does_not_run_at_import(source):
    assert Phase.IMPORT not in shells(source)


def test_constructors_and_hooks_run_at_load():
    for method in ("__init__", "from_pretrained", "__setstate__", "__reduce__"):
        assert shells(f"import os\nclass A:\n    def {method}(self): os.system('x')", "A") == {Phase.LOAD}


def test_a_module_level_getattr_runs_at_load():
    assert shells("import os\ndef __getattr__(name): os.system('x')", "A") == {Phase.LOAD}


def test_the_constructor_of_another_class_does_not_run():
    source = "import os\nclass A: pass\nclass Other:\n    def __init__(self): os.system('x')"
    assert shells(source, "A") == {Phase.LATER}


def test_the_constructor_of_a_base_runs():
    source = "import os\nclass B:\n    def __init__(self): os.system('x')\nclass A(B): pass"
    assert shells(source, "A") == {Phase.LOAD}


def test_forward_runs_in_use_and_what_it_calls_too():
    source = "import os\ndef f(): os.system('x')\nclass A:\n    def forward(self): f()"
    assert shells(source, "A") == {Phase.USE}


def test_neighbours_are_imported_and_called():
    assert shells("from .helper import x", helper="import os\nos.system('x')") == {Phase.IMPORT}
    assert shells("from . import helper\nhelper.go()", helper="import os\ndef go(): os.system('x')") == {Phase.IMPORT}
    assert shells("from .helper import *", helper="import os\ndef go(): os.system('x')") == {Phase.LATER}


def test_a_class_that_a_neighbour_defines_is_followed():
    helper = "import os\nclass A:\n    def __init__(self): os.system('x')"
    assert shells("from .helper import A", "A", helper=helper) == {Phase.LOAD}


def test_a_branch_for_publishing_is_not_what_an_installer_runs():
    program = Program({"setup.py": "import os, sys\nif sys.argv[-1] == 'publish':\n    os.system('twine upload')"})
    assert program.reach([("setup.py", None)], as_main=True) == []


def test_a_file_that_does_not_parse_is_a_problem():
    program = Program({"m.py": "from . import n", "n.py": "def ("})
    program.reach([("m.py", None)])
    assert list(program.problems) == ["n.py"]


def test_imports_in_a_circle_end():
    program = Program({"m.py": "from .n import A", "n.py": "from .m import A\nclass A: pass"})
    assert program.reach([("m.py", "A")]) == []
    assert program.reached == ["m.py", "n.py"]
