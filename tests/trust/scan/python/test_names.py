from __future__ import annotations

import ast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regraft.errors import Damaged, LimitExceeded
from regraft.trust.scan.python.names import Names, parse


def meaning(source: str) -> frozenset[str]:
    """What the function of the last line's call resolves to."""
    tree = parse(source, where="test")
    last = tree.body[-1]
    assert isinstance(last, ast.Expr)
    assert isinstance(last.value, ast.Call)
    return Names(tree).resolve(last.value.func)


@pytest.mark.parametrize(
    "source",
    [
        "import os\nos.system('x')",
        "import os as o\no.system('x')",
        "from os import system\nsystem('x')",
        "from os import system as s\nt = s\nu = t\nu('x')",
        "from os import *\nsystem('x')",
        "__import__('os').system('x')",
        "import importlib\nimportlib.import_module('o' + 's').system('x')",
        "import os\ngetattr(os, 'sys' + 'tem')('x')",
        "import os\ngetattr(os, 'metsys'[::-1])('x')",
        "import os\nn = 'system'\nvars(os)[n]('x')",
        "import os\nos.__dict__['system']('x')",
        "import sys\nsys.modules['os'].system('x')",
        "getattr(__import__(''.join(chr(c) for c in [111, 115])), 'system')('x')",
        "getattr(__import__(bytes([111, 115]).decode()), 'system')('x')",
        "import base64\ngetattr(__import__(base64.b64decode('b3M=').decode()), 'system')('x')",
        "import codecs\n__import__(codecs.decode('bf', 'rot13')).system('x')",
        "import posix\nposix.system('x')",
        "import os\nf = print\nf = os.system\nf('x')",
        "(a := __import__('os')).system('x')",
        "import os\n(os if x else os).system('x')",
    ],
)
def test_disguises_of_os_system_resolve(source):
    assert "os.system" in meaning(source)


@pytest.mark.parametrize(
    "source", ["model.eval()", "import re\nre.compile('x')", "def system(c): pass\nsystem('x')", "self.system('x')"]
)
def test_namesakes_do_not_resolve_to_the_dangerous_name(source):
    assert not meaning(source) & {"os.system", "builtins.eval", "builtins.compile"}


def test_what_is_not_python_is_damaged():
    for source in ["def (", "\x00", "(" * 5000, "x" + ".y" * 200_000]:
        with pytest.raises(Damaged):
            parse(source, where="test")


def test_source_made_to_be_expensive_hits_a_limit():
    aliases = "import os\nimport operator\ng = getattr\ng = operator.attrgetter\ng = os.x.__getattribute__\n"
    source = aliases + "g(" * 40 + "os" + ", 'a')" * 40 + "()"
    with pytest.raises(LimitExceeded):
        meaning(source)


@given(st.text(max_size=200))
def test_any_text_parses_or_is_damaged(source):
    try:
        tree = parse(source, where="test")
    except Damaged:
        return
    names = Names(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.expr):
            names.resolve(node)
            names.fold(node)


def test_source_whose_tree_would_fill_the_memory_is_refused_before_it_is_built():
    for source in ("x=1\n" * 300_000, b"x=1\n" * 300_000):
        with pytest.raises(LimitExceeded, match="words and signs"):
            parse(source, where="x.py")
    long_text = "x = '" + "a" * 1_000_000 + "'\n"  # one word
    assert parse(long_text, where="x.py").body
