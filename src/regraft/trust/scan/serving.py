"""Code that serving and packaging programs run because a file of theirs names it: BentoML, Cog, Ray Serve, pip, …"""

from __future__ import annotations

import json
import posixpath
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence

from regraft.trust.scan.entrypoints import EntryPoint, path_of
from regraft.trust.scan.interface import Site

_MAX_BYTES = 256 << 10
_NAMES = r"""[ \t]*[:=][ \t]*["']?(?P<target>[\w./:-]+)"""
_NAMED: tuple[tuple[re.Pattern[str], re.Pattern[str], str], ...] = tuple(
    (re.compile(rf"(^|/)({files})$"), re.compile(rf"^[ \t-]*{key}{_NAMES}", re.MULTILINE), who)
    for files, key, who in (
        (r"bento(file)?\.ya?ml", "service", "BentoML imports it to serve"),
        (r"cog\.ya?ml", "(?:predict|train)", "Cog imports it to predict"),
        (r"serve[\w.-]*\.ya?ml", "import_path", "Ray Serve imports it"),
        (r"serving\.properties", r"option\.entryPoint", "DJL Serving imports it"),
        (r"graph\.pbtxt", "handler_path", "OpenVINO Model Server imports it"),
        (r"README\.md", "app_file", "the demo runs it"),
        (r"model-settings\.json", '"implementation"', "MLServer imports it"),
    )
)
"""What a file is called, the key in it that names code, and who runs that code."""
_BASES = ("", "src", "code", "app")
"""Folders beside the file in which the programs look for it."""


def served_code(sites: Sequence[Site]) -> Iterator[EntryPoint]:
    """The files of a package that such programs would import or run, each with what names it."""
    by_path = {path_of(site): site for site in sites}
    for path, site in by_path.items():
        for pattern, key, who in _NAMED:
            if pattern.search(path) and (text := _text(site)):
                named_by = f"{path}: {who}"
                for match in key.finditer(text):
                    yield from _named(match["target"], posixpath.dirname(path), named_by, by_path)
        name = site.probe.basename
        if name == "pyproject.toml":
            yield from _build_backend(path, site, by_path)
        elif name == "meta.json" and _is_spacy(path, site, by_path):
            yield from _beside(path, "__init__.py", "spaCy imports it to load the pipeline", by_path)
        elif name == "conftest.py" and "/" not in path:
            yield EntryPoint(path, None, "pytest imports it", as_main=True)
        elif name == "config.yaml" and "model_class_name" in _text(site):
            yield from _beside(path, "model/model.py", "Truss imports it to serve", by_path)


def _named(target: str, folder: str, named_by: str, by_path: Mapping[str, Site]) -> Iterator[EntryPoint]:
    """The file of `module:object`, `module.Class`, `file.py:Class` or `file.py`."""
    module = target.partition(":")[0]
    dotted = module.removesuffix(".py").replace(".", "/")
    for base in _BASES:
        for stem in (dotted, posixpath.dirname(dotted)):
            candidate = posixpath.normpath(posixpath.join(folder, base, f"{stem}.py"))
            if stem and candidate in by_path:
                yield EntryPoint(candidate, None, named_by)
                return


def _beside(path: str, name: str, named_by: str, by_path: Mapping[str, Site]) -> Iterator[EntryPoint]:
    candidate = posixpath.normpath(posixpath.join(posixpath.dirname(path), name))
    if candidate in by_path:
        yield EntryPoint(candidate, None, named_by)


def _build_backend(path: str, site: Site, by_path: Mapping[str, Site]) -> Iterator[EntryPoint]:
    """A build backend that lies in the source tree (PEP 517, `backend-path`): installing from source runs it."""
    try:
        content = tomllib.loads(_text(site))
    except (tomllib.TOMLDecodeError, RecursionError):
        return
    system = content.get("build-system")
    paths = system.get("backend-path") if isinstance(system, dict) else None
    backend = system.get("build-backend") if isinstance(system, dict) else None
    if not isinstance(paths, list) or not isinstance(backend, str):
        return
    module = backend.partition(":")[0].replace(".", "/")
    for folder in paths:
        for name in (f"{module}.py", f"{module}/__init__.py"):
            candidate = posixpath.normpath(posixpath.join(posixpath.dirname(path), str(folder), name))
            if candidate in by_path:
                yield EntryPoint(candidate, None, f"{path}, build-backend", as_main=True)


def _is_spacy(path: str, site: Site, by_path: Mapping[str, Site]) -> bool:
    if posixpath.join(posixpath.dirname(path), "config.cfg") not in by_path:
        return False
    try:
        content = json.loads(_text(site))
    except (ValueError, RecursionError):
        return False
    return isinstance(content, dict) and "lang" in content


def _text(site: Site) -> str:
    if site.probe.reader.size > _MAX_BYTES:
        return ""
    return site.probe.reader.read_all(limit=_MAX_BYTES).decode("utf-8", "replace")
