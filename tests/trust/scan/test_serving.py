"""Code that serving and packaging programs run: harmful code fails, harmless code is listed."""

from __future__ import annotations

import json

import pytest

HARM = "import os\nos.system('echo pwned')\n"
PLAIN = "def predict(x):\n    return x\n"
NAMED = {
    "BentoML": ({"bentofile.yaml": 'service: "service:svc"\n'}, "service.py"),
    "BentoML, built": ({"bento.yaml": "service: service:svc\n"}, "src/service.py"),
    "Cog": ({"cog.yaml": 'build:\n  gpu: true\npredict: "predict.py:Predictor"\n'}, "predict.py"),
    "Ray Serve": ({"serve_config.yaml": "applications:\n- name: a\n  import_path: app:net\n"}, "app.py"),
    "DJL": ({"serving.properties": "engine=Python\noption.entryPoint=model.py\n"}, "model.py"),
    "OpenVINO Model Server": ({"graph.pbtxt": 'node { options {\n handler_path: "model.py"\n} }\n'}, "model.py"),
    "demo": ({"README.md": "---\nsdk: gradio\napp_file: app.py\n---\n"}, "app.py"),
    "MLServer": ({"model-settings.json": '{\n "implementation": "net.Net"\n}\n'}, "net.py"),
    "Truss": ({"config.yaml": "model_class_name: Model\n"}, "model/model.py"),
    "spaCy": ({"meta.json": json.dumps({"lang": "en"}), "config.cfg": "[nlp]\n"}, "__init__.py"),
}


@pytest.mark.parametrize(("files", "code"), NAMED.values(), ids=NAMED)
def test_harmful_code_fails_and_harmless_code_is_listed(rules_of, files, code):
    other = {"model.safetensors": b"", "notes.txt": "x"}
    assert "RGS-COD-001" in rules_of({**files, **other, code: HARM})
    found = rules_of({**files, **other, code: PLAIN})
    assert "RGS-COD-004" in found
    assert "RGS-COD-001" not in found


def test_a_build_backend_of_its_own(rules_of):
    project = "[build-system]\nrequires = []\nbuild-backend = 'backend'\nbackend-path = ['tools']\n"
    assert "RGS-COD-001" in rules_of({"pyproject.toml": project, "tools/backend.py": HARM})
    assert "RGS-COD-001" not in rules_of({"pyproject.toml": project, "tools/backend.py": PLAIN})
    assert "RGS-COD-001" not in rules_of({"pyproject.toml": "[build-system", "tools/backend.py": HARM})


def test_what_pytest_imports(rules_of):
    assert "RGS-COD-001" in rules_of({"conftest.py": HARM, "config.json": "{}"})
    assert "RGS-COD-004" not in rules_of({"conftest.py": PLAIN, "config.json": "{}"})


def test_names_of_files_that_are_not_there_are_nothing(rules_of):
    found = rules_of({"cog.yaml": "predict: gone.py:P\n", "other.py": HARM, "config.json": "{}"})
    assert "RGS-COD-001" not in found
