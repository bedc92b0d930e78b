"""Code of a package is imported in a confined process only; the way there is read from config.json, as data."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from regraft.errors import Damaged, PermitRefused, Unsupported
from regraft.package.package import open_package
from regraft.record.permit import Permit, Scope
from regraft.runtime import package_code
from regraft.runtime.verified import VerifiedFiles

NAMES = {"AutoConfig": "configuration_own.OwnConfig", "AutoModel": "modeling_own.OwnModel"}


@pytest.fixture
def network(tmp_path: Path) -> Callable[..., Any]:
    """Asks for the network of a package with such a config.json, under leave for such a scope."""

    def ask(config: str, *, scope: Scope = Scope.CODE) -> Any:
        (tmp_path / "config.json").write_text(config)
        (tmp_path / "model.safetensors").write_bytes(b"")
        for name in ("configuration_own.py", "modeling_own.py"):
            (tmp_path / name).write_text(f"open({str(tmp_path / 'imported')!r}, 'w')")
        with open_package(tmp_path) as package:
            digest = package.manifest().digest
            files = VerifiedFiles(package, Permit(digest, scope, digest))
            return package_code.network_from_package_code(files, "model.safetensors", head=True)

    return ask


def auto_map(**names: str) -> str:
    return json.dumps({"model_type": "own", "architectures": ["OwnModel"], "auto_map": names})


def test_it_is_imported_in_no_process_that_has_not_confined_itself(network, tmp_path):
    with pytest.raises(PermitRefused, match="this process is none"):
        network(auto_map(**NAMES))
    assert not (tmp_path / "imported").exists()


def test_where_there_is_no_code_or_no_leave_there_is_no_network(network):
    assert network("{}") is None
    assert network(auto_map(**NAMES), scope=Scope.DATA) is None


@pytest.mark.parametrize("config", ["[]", "{", '{"auto_map": 3}', '{"auto_map": ["a"]}', "[" * 100_000])
def test_a_configuration_that_is_none_is_damaged(network, config):
    with pytest.raises(Damaged, match="not a configuration"):
        network(config)


@pytest.mark.parametrize(
    ("names", "error", "words"),
    [
        ({"AutoModel": "modeling_own.OwnModel"}, Unsupported, "names a network and no configuration"),
        ({"AutoConfig": "configuration_own.OwnConfig"}, Unsupported, "names no network; it has AutoConfig"),
        ({**NAMES, "AutoConfig": "someone/else--a.B"}, Unsupported, "in another repository"),
    ],
)
def test_what_leads_nowhere_is_told_before_anything_is_imported(network, monkeypatch, tmp_path, names, error, words):
    monkeypatch.setattr(package_code, "is_confined", lambda: True)
    with pytest.raises(error, match=words):
        network(auto_map(**names))
    assert not (tmp_path / "imported").exists()
