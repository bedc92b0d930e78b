"""Networks that a package brings as code of its own (`auto_map` of transformers); only inside of the sandbox."""

from __future__ import annotations

import json
import posixpath
from pathlib import Path
from typing import TYPE_CHECKING, Any

from regraft.errors import Damaged, PermitRefused, Unsupported
from regraft.package.limits import MAX_TEXT_BYTES
from regraft.record.permit import Scope
from regraft.runtime.launch import is_confined

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

    from regraft.runtime.verified import VerifiedFiles

_HEADS = ("AutoModelFor", "AutoModel")
_ELSEWHERE = "--"
"""Between a repository and a module, where the code is in another repository."""


def network_from_package_code(
    files: VerifiedFiles, path: str, *, head: bool
) -> tuple[PretrainedConfig, type[PreTrainedModel]] | None:
    """Configuration and class of the network, imported from the package; None where it has no code or none may run.

    Args:
        files: a folder on this machine.
        path: the weights, beside config.json.
        head: the class that the package declares; otherwise the backbone, where it brings one.
    Raises:
        PermitRefused: this process is not confined.
        Unsupported: the code is elsewhere, or raises when it is imported.
        Damaged: config.json is not what it should be.
    Source: transformers 5, dynamic_module_utils.get_class_from_dynamic_module.
    """
    place = files.beside(path, "config.json")
    if place is None or files.permit is None or files.permit.scope is not Scope.CODE:
        return None
    try:
        fields = json.loads(files.text(place, limit=MAX_TEXT_BYTES))
        names = {str(key): str(name) for key, name in dict(fields.get("auto_map") or {}).items()}
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise Damaged(f"not a configuration: {error}", where=place) from None
    if not names:
        return None
    if not is_confined():
        raise PermitRefused("code of a package runs in the sandbox only, and this process is none", where=place)
    folder = Path(files.package.ref.location) / posixpath.dirname(place)
    wanted = _model_name(names, fields, head=head, where=place)
    if "AutoConfig" not in names:
        raise Unsupported("auto_map names a network and no configuration for it", where=place)
    config_class: Any = _imported(names["AutoConfig"], folder, place)
    try:
        config = config_class.from_dict({key: value for key, value in fields.items() if key != "auto_map"})
    except Exception as error:
        raise Unsupported(f"the package's configuration raises {type(error).__name__}: {error}", where=place) from error
    return config, _imported(wanted, folder, place)


def _model_name(names: dict[str, str], fields: dict[str, Any], *, head: bool, where: str) -> str:
    """The entry whose class is the declared one, else that of the backbone, else the first of a network."""
    declared = fields.get("architectures") or [""]
    networks = {key: name for key, name in names.items() if key.startswith(_HEADS)}
    if head:
        for name in networks.values():
            if name.rpartition(".")[2] == declared[0]:
                return name
    if not networks:
        raise Unsupported(f"auto_map names no network; it has {', '.join(names)}", where=where)
    return networks.get("AutoModel") or next(iter(networks.values()))


def _imported(name: str, folder: Path, where: str) -> Any:
    from transformers.dynamic_module_utils import get_class_from_dynamic_module

    if _ELSEWHERE in name:
        raise Unsupported(f"its code is in another repository: {name[:200]}", where=where)
    try:
        return get_class_from_dynamic_module(name, folder, local_files_only=True)
    except Exception as error:
        raise Unsupported(f"{name[:200]} raises {type(error).__name__}: {str(error)[:300]}", where=where) from error
