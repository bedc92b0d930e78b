from __future__ import annotations

import ast

import pytest

from regraft.trust.scan.python.effects import Kind, effects_in
from regraft.trust.scan.python.names import Names, parse


def kinds(source: str) -> set[Kind]:
    tree = parse(source, where="test")
    return {effect.kind for effect in effects_in(list(ast.walk(tree)), Names(tree))}


@pytest.mark.parametrize(
    ("source", "kind"),
    [
        ("import os\nos.system('x')", Kind.SHELL),
        ("import os\nos.execvp('x', [])", Kind.SHELL),
        ("import subprocess\nsubprocess.run('x', shell=True)", Kind.SHELL),
        ("import subprocess\nsubprocess.run(['bash', '-c', 'x'])", Kind.SHELL),
        ("import subprocess\nsubprocess.run(['git', 'describe'])", Kind.PROCESS),
        ("eval(text)", Kind.EVALUATE_NAME),
        ("eval(open(x).read())", Kind.EVALUATE),
        ("exec(text)", Kind.EVALUATE),
        ("import base64\nexec(base64.b64decode(text))", Kind.DECODE),
        ("exec('imp' + 'ort os')", Kind.DECODE),
        ("exec('import os; os.system(1)')", Kind.SHELL),
        ("import marshal\nmarshal.loads(b'')", Kind.DECODE),
        ("[].__class__.__base__.__subclasses__()", Kind.DECODE),
        ("import ctypes\nctypes.CDLL('x')", Kind.NATIVE),
        ("import urllib.request\nurllib.request.urlopen('x')", Kind.NETWORK),
        ("import socket\nsocket.socket()", Kind.NETWORK),
        ("import requests\nrequests.post('x')", Kind.NETWORK),
        ("import shutil\nshutil.rmtree('x')", Kind.DELETE),
        ("open('x', 'w')", Kind.WRITE),
        ("open('/tmp/x', 'w')", Kind.WRITE_OUTSIDE),
        ("import pathlib\npathlib.Path('~/x').expanduser().write_text('')", Kind.WRITE_OUTSIDE),
        ("import pathlib\npathlib.Path('../x').write_text('')", Kind.WRITE_OUTSIDE),
        ("import os\nopen(os.path.expanduser('~/.ssh/id_rsa'))", Kind.SECRETS),
        ("import pickle\npickle.loads(data)", Kind.UNPICKLE),
        ("import pickle\npickle.loads(b'cos')", Kind.DECODE),
        ("import pickle, base64\npickle.loads(base64.b64decode(x))", Kind.DECODE),
        ("import torch\ntorch.load('x')", Kind.UNPICKLE),
        ("import yaml\nyaml.load(x, Loader=yaml.Loader)", Kind.UNPICKLE),
        ("import os\nlist(map(os.system, ['x']))", Kind.SHELL),
        ("import builtins\nbuiltins.open = f", Kind.HOOK),
        ("__import__(name).x()", Kind.DYNAMIC),
    ],
)
def test_effects_are_recognised(source, kind):
    assert kind in kinds(source)


@pytest.mark.parametrize(
    "source",
    [
        "model.eval()",
        "import re\nre.compile('x')",
        "open('x')",
        "open('x', 'rb')",
        "open(path, encoding='utf-8')",
        "eval('1 + 1')",
        "import os\nos.path.join('a', 'b')\nos.environ.get('HOME')\nos.makedirs('x', exist_ok=True)",
        "import torch\ntorch.load('x', weights_only=True)",
        "import torch\ntorch.compile(model)",
        "import yaml\nyaml.load(x, Loader=yaml.SafeLoader)",
        "import yaml\nyaml.safe_load(x)",
        "import subprocess\ntry: pass\nexcept subprocess.CalledProcessError: pass",
        "import requests\ntry: pass\nexcept requests.exceptions.HTTPError: pass",
        "import socket\nsocket.gethostname()",
        "x.__subclasses__()",
        "import types\nisinstance(x, types.FunctionType)",
        "print('ssh -i ~/.ssh/id_rsa host')",
    ],
)
def test_ordinary_calls_have_no_effect(source):
    assert kinds(source) == set()
