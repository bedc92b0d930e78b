"""Entry points: which code of a package its usual loaders would run, and what names it."""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from regraft.package.formats import Description
from regraft.package.limits import MAX_NESTING, MAX_TEXT_BYTES
from regraft.record.bounded_yaml import parse_yaml
from regraft.trust.scan.descriptions import description_of
from regraft.trust.scan.interface import Site

_LETTER = rb"\\(?:x|u00|U000000)(?:[46][1-9a-fA-F]|[57][0-9aA]|5[fF])"
"""A letter or underscore written as an escape of JSON or YAML: nobody does so who does not hide a key."""
_MARKERS = (
    b"auto_map", b"custom_pipelines", b"custom_generate", b"_class_name", b'"type"', b"_target_",
    b"activation_function",
    b"base_model_name_or_path", b"weight_map", b'"handler"', b"_module_class", b"weightsManifest", b'"paths"',
    b"attn_implementation", b"parent_library", b'"types"', b"activation_fn", b"pipeline", b"target",
    b"loader_module", b"custom_generate",
)  # fmt: skip
_NAMES_A_FILE = re.compile(r"(^|_)(file|files|path|filename|filepath|dir)$")
"""Keys of a library's own configuration; those of training, in YAML, name files of whoever trained."""
_CLIMBS = re.compile(r"^\.\.[/\\]|[/\\]\.\.[/\\]|^(/etc/|/proc/|/root/\.|~/\.)|^file://|/\.(ssh|aws|gnupg|kube)/")
_PATH_MARKERS = (b"../", b"..\\", b"file://", b'"/etc/', b'"/proc/', b'"~/.', b"/.ssh/", b"/.aws/", b'"/root/.')
_PARSED, _MENTIONS = "scan configuration", "scan mentions code"
"""Under what names a probe keeps what was found out about it, for the several families that ask."""
_SMALL_BYTES = 256 << 10
"""Configurations that name files are small; vocabularies hold every text."""
_OPERATORS = ("torch.ops.", "_operator.", "torch.sym_")
_CODE_WORDS = (b"auto_map", b"custom_pipelines", b"_target_", b"weight_map")
_CODE_KEYS = re.compile(rb"(?:" + b"|".join(_CODE_WORDS) + rb""")["']?[ \t\r\n]*:|""" + _LETTER)
_ESCAPES = (b"\\u00", b"\\x", b"\\U000000")
_HIDDEN = re.compile(_LETTER)
_TARGET = re.compile(r"""_target_\\?["']?\s*:\s*\\?["']?(?P<name>[A-Za-z_][\w.]*)""")
_WITH_METADATA = frozenset({"safetensors", "gguf", "onnx"})
_CONFIG_SUFFIXES = frozenset({".json", ".yaml", ".yml", "mlmodel"})
"""Suffixes, and the name of the one configuration without (mlflow's MLmodel, in YAML)."""
_ENTRY_FILES = {
    "handler.py": "an inference endpoint runs it",
    "hubconf.py": "torch.hub imports it",
    "sitecustomize.py": "the interpreter imports it at every start",
    "usercustomize.py": "the interpreter imports it at every start",
    "custom_st.py": "sentence-transformers imports it",
}
_ENTRY_PATHS = {
    "code/inference.py": "an inference server runs it",
    "custom_generate/generate.py": "transformers runs it for generate()",
    "inference.py": "an inference server runs it",
}
_DATASET_SCRIPT = re.compile(r"GeneratorBasedBuilder|ArrowBasedBuilder|datasets\.BuilderConfig|DatasetBuilder")
_ACTIVATIONS = frozenset({"activation_function", "activation_fn"})
_ATTENTION = ("attn_implementation", "_attn_implementation")
"""Keys whose value transformers takes for a repository of compiled kernels when it holds a slash."""
_ROUTERS = frozenset({"config.json", "router_config.json"})
"""Files in which sentence-transformers' Router and Asym name the classes of their parts."""
_DOTTED = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+")
_KERNEL_BUILD = re.compile(r"(^|/)build/torch[\w.+-]*/\w+$")
_PIPELINE_LIBRARIES = frozenset({"diffusers", "transformers", "onnxruntime", "flax", "optimum", "stable_diffusion"})
_INNOCENT_PREFIXES = ("torch.nn.", "sentence_transformers.", "transformers.", "torch.optim.")


class EntryPoint(msgspec.Struct, frozen=True):
    """A file that a loader would import.

    Attributes:
        path: of the file, as `path_of` writes it.
        class_name: the class that the loader builds; None when it takes the whole file.
        named_by: what makes the loader do so: `config.json, auto_map.AutoModel`.
        archive: path of the torch.package archive that it belongs to, whose files are reported together.
        as_main: it is run as a script.
    """

    path: str
    class_name: str | None
    named_by: str
    as_main: bool = False
    archive: str | None = None


class Reference(msgspec.Struct, frozen=True):
    """A place in a configuration that names code: `kind` is the key's family, `value` what it says."""

    site: Site
    kind: str
    field: str
    value: str


def path_of(site: Site) -> str:
    """A path over files and members alike, so that neighbours share a folder: `a.zip!/config.json`."""
    return site.file if site.member is None else f"{site.file}!/" + site.member.replace("!", "!/")


def is_script(path: str) -> bool:
    """Is this a Python source by its name? Loaders go by the name."""
    return path.endswith((".py", ".pyw"))


def configuration(site: Site) -> Any:
    """The JSON or YAML of a file that mentions something that may name code; None for all others."""
    kept = site.probe.__dict__
    if _PARSED not in kept:
        found = _parsed(site) if _mentions_code(site) else None
        if found is not None and site.probe.reader.size > _SMALL_BYTES:
            return found  # parsed again when it is asked for again, rather than held
        kept[_PARSED] = found
    return kept[_PARSED]


def _mentions_code(site: Site) -> bool:
    """Is this a configuration of bounded size in which a key stands that makes some loader import, follow or open?"""
    kept = site.probe.__dict__
    if _MENTIONS not in kept:
        kept[_MENTIONS] = False
        if (site.probe.suffix or site.probe.basename) in _CONFIG_SUFFIXES and site.probe.reader.size <= MAX_TEXT_BYTES:
            data = site.probe.reader.read_all(limit=MAX_TEXT_BYTES)
            markers = _MARKERS if len(data) > _SMALL_BYTES else (*_MARKERS, *_PATH_MARKERS)
            kept[_MENTIONS] = any(marker in data for marker in markers) or has_hidden_letters(data)
    return bool(kept[_MENTIONS])


def _parsed(site: Site) -> Any:
    try:
        text = site.probe.reader.read_all(limit=MAX_TEXT_BYTES).decode("utf-8-sig")
        return json.loads(text) if site.probe.suffix == ".json" else parse_yaml(text)[0]
    except (ValueError, RecursionError):
        return None


def has_hidden_letters(text: bytes) -> bool:
    """Is a letter written as an escape, so that a search for a key would miss it (`"auto\\u005fmap"`)?"""
    return any(escape in text for escape in _ESCAPES) and _HIDDEN.search(text) is not None


def targets_in_text(site: Site) -> Iterator[tuple[str, str]]:
    """(field, dotted name) of `_target_` keys where no parser of ours reaches: YAML with aliases, metadata of weights.

    A text of metadata is a configuration that its library parses and instantiates (ml-flextok, CVE-2026-22584).
    """
    if site.probe.suffix in _CONFIG_SUFFIXES:
        if is_unreadable_configuration(site) and site.probe.reader.size <= MAX_TEXT_BYTES:
            text = site.probe.reader.read_all(limit=MAX_TEXT_BYTES).decode("utf-8", "replace")
            yield from (("_target_", match["name"]) for match in _TARGET.finditer(text))
    elif site.format is not None and site.format.name in _WITH_METADATA:
        found = description_of(site)
        for key, value in found.metadata.items() if isinstance(found, Description) else ():
            yield from ((key, match["name"]) for match in _TARGET.finditer(value))


def is_unreadable_configuration(site: Site) -> bool:
    """Does a file mention a key that names code, although it cannot be parsed here? A zero byte ends every text."""
    if site.probe.suffix not in _CONFIG_SUFFIXES:
        return False
    if site.probe.reader.size <= MAX_TEXT_BYTES and not _mentions_code(site):
        return False
    tail = b""
    for chunk in site.probe.reader.chunks():
        if b"\0" in chunk:
            return False
        window = tail + chunk
        if any(word in window for word in (*_CODE_WORDS, *_ESCAPES)) and _CODE_KEYS.search(window):
            return configuration(site) is None
        tail = chunk[-32:]
    return False


def references(site: Site) -> Iterator[Reference]:
    """What one configuration file names, without deciding whether it is harmful."""
    content = configuration(site)
    if content is None:
        return
    if site.probe.basename == "modules.json" and isinstance(content, list):
        for i, item in enumerate(content):
            if isinstance(item, dict) and isinstance(item.get("type"), str):
                yield Reference(site, "module-type", f"[{i}].type", item["type"])
        return
    if site.probe.basename == "model_index.json" and isinstance(content, dict):
        yield from _pipeline_parts(site, content)
    for field, key, value in _walk(content):
        if key == "auto_map" and isinstance(value, dict | list):
            named = value if isinstance(value, dict) else {"AutoTokenizer": value}  # as old tokenizers write it
            for name, target in named.items():
                for text in target if isinstance(target, list) else [target]:
                    if isinstance(text, str):
                        yield Reference(site, "auto-map", f"{field}.{name}", text)
        elif key == "types" and isinstance(value, dict) and site.probe.basename in _ROUTERS:
            for name, target in value.items():
                if isinstance(target, str) and "." in target:
                    yield Reference(site, "module-type", f"{field}.{name}", target)
        elif isinstance(value, str) and _is_operator(site, key, value):
            continue
        elif isinstance(value, str) and (kind := _kind_of_text(site.probe.basename, field, key, value)) is not None:
            yield Reference(site, kind, field, value)


def _is_operator(site: Site, key: str, value: str) -> bool:
    """Is this a node of an exported program, which calls a registered operator and imports nothing?"""
    return site.inside == "torch-export" and key == "target" and value.startswith(_OPERATORS)


def _kind_of_text(basename: str, field: str, key: str, value: str) -> str | None:
    """What a text under this key names for a loader; None when it names no code."""
    if key == "impl" and "custom_pipelines" in field:
        return "auto-map"
    if key == "_target_":
        return "target"
    if key == "custom_generate" and "/" in value:
        return "remote"
    if (
        basename.endswith("config.json")
        and _NAMES_A_FILE.search(key)
        and not key.endswith("_or_path")
        and _CLIMBS.search(value)
    ):
        return "file"
    if key in _ACTIVATIONS and "." in value:
        return "module-type"
    if key.startswith(_ATTENTION) and "/" in value:
        return "kernel"
    if key == "parent_library":
        return "library"
    if (key == "target" or field == "pipeline.name") and _DOTTED.fullmatch(value):
        return "import-path"
    if key == "loader_module" and basename == "mlmodel":
        return "loader-module"
    if key == "handler" and basename == "manifest.json":
        return "handler"
    return "base-model" if key == "base_model_name_or_path" and value else None


def entry_points(sites: Sequence[Site]) -> list[EntryPoint]:
    """Every file that a loader of this package would import or run."""
    by_path = {path_of(site): site for site in sites}
    found: dict[tuple[str, str | None], EntryPoint] = {}
    for site in sites:
        for reference in references(site):
            for point in _targets(reference, by_path):
                found.setdefault((point.path, point.class_name), point)
    layout = _Layout(by_path)
    for path, site in by_path.items():
        if is_script(path) and site.inside != "torchscript" and (why := _by_convention(path, site, layout)):
            archive = path.rpartition("!/")[0] if site.inside == "torch-package" else None
            found.setdefault((path, None), EntryPoint(path, None, why, path.endswith("setup.py"), archive))
    return list(found.values())


def is_innocent(dotted: str) -> bool:
    """Does this dotted name lie in a library whose classes only compute?"""
    return dotted.startswith(_INNOCENT_PREFIXES)


def local_file(reference: Reference) -> tuple[str, str] | None:
    """(path, class) that a `module.Class` value means beside its configuration; None for another repository."""
    if "--" in reference.value or "." not in reference.value:
        return None
    if reference.kind == "handler":  # MAR-INF/MANIFEST.json names a file of the folder above
        above = posixpath.dirname(posixpath.dirname(path_of(reference.site)))
        return posixpath.normpath(posixpath.join(above, reference.value.partition(":")[0])), ""
    module, _, name = reference.value.rpartition(".")
    folder = posixpath.dirname(path_of(reference.site))
    return posixpath.normpath(posixpath.join(folder, module.replace(".", "/") + ".py")), name


def _targets(reference: Reference, by_path: Mapping[str, Site]) -> Iterator[EntryPoint]:
    if reference.kind == "loader-module":
        yield from _mlflow_code(reference, by_path)
    if reference.kind in ("base-model", "kernel", "library", "loader-module", "remote", "file"):
        return
    target = local_file(reference)
    named_by = f"{path_of(reference.site)}, {reference.field}"
    if target is None:
        return
    path, class_name = target
    folder = posixpath.dirname(path_of(reference.site))
    for candidate in (path, posixpath.join(folder, reference.value.split(".")[0], "__init__.py")):
        if candidate in by_path:
            yield from _packages_above(candidate, folder, named_by, by_path)
            yield EntryPoint(candidate, class_name or None, named_by)
            return


def _packages_above(path: str, folder: str, named_by: str, by_path: Mapping[str, Site]) -> Iterator[EntryPoint]:
    """What an import of a module in a package runs first: the `__init__.py` of every folder on the way to it."""
    above = posixpath.dirname(path)
    while len(above) > len(folder):
        if (init := f"{above}/__init__.py") in by_path and init != path:
            yield EntryPoint(init, None, named_by)
        above = posixpath.dirname(above)


def _mlflow_code(reference: Reference, by_path: Mapping[str, Site]) -> Iterator[EntryPoint]:
    """The module that mlflow imports to load a model, out of the folder of code that it puts on the path."""
    folder = posixpath.dirname(path_of(reference.site))
    module = reference.value.replace(".", "/")
    for base in ("", "code", "data"):
        path = posixpath.normpath(posixpath.join(folder, base, f"{module}.py"))
        if path in by_path:
            yield EntryPoint(path, None, f"{path_of(reference.site)}, {reference.field}")


def _pipeline_parts(site: Site, content: dict[str, Any]) -> Iterator[Reference]:
    for name, value in content.items():
        if not (isinstance(value, list) and len(value) == 2 and all(isinstance(part, str) for part in value)):
            continue
        library, class_name = value
        if library.split(".")[0] not in _PIPELINE_LIBRARIES:
            module = library if name == "_class_name" else f"{name}.{library}"
            yield Reference(site, "pipeline-part", name, f"{module}.{class_name}")


class _Layout:
    """Folders of a package: what lies in each, and which are roots (of the package, or of an archive in it)."""

    def __init__(self, paths: Collection[str]) -> None:
        self.paths = paths
        self.names: dict[str, set[str]] = {}
        trees: dict[str, list[str]] = {}
        for path in paths:
            folder, name = posixpath.split(path)
            self.names.setdefault(folder, set()).add(name)
            tree, _, _ = path.rpartition("!/")
            trees.setdefault(tree, []).append(folder)
        self.roots = {f"{tree}!" if tree else "" for tree in trees}
        self.roots |= {posixpath.commonpath(folders) for folders in trees.values() if _are_alike(folders)}


def _are_alike(folders: Sequence[str]) -> bool:
    """Can they have a common path: are they all relative, or all absolute?"""
    return len({folder.startswith("/") for folder in folders}) == 1


def _by_convention(path: str, site: Site, layout: _Layout) -> str | None:
    """Why a loader runs this file although nothing names it; None when none does."""
    if site.inside == "torch-package":
        is_torchscript = "/.data/" in path
        return None if is_torchscript else "torch.package imports it with the pickles that need it"
    folder, name = posixpath.split(path)
    beside = layout.names[folder]
    root = folder in layout.roots
    if len(layout.paths) == 1:
        return "it is all that there is"
    if name == "setup.py" and (root or "PKG-INFO" in beside):
        return "installing from source runs it"
    if name in ("sitecustomize.py", "usercustomize.py"):
        return _ENTRY_FILES[name]
    if name in _ENTRY_FILES and (root or "config.json" in beside or "modules.json" in beside):
        return _ENTRY_FILES[name]
    for tail, why in _ENTRY_PATHS.items():
        if path.endswith(tail) and path.removesuffix(tail).rstrip("/") in layout.roots:
            return why
    if name == "__init__.py" and _KERNEL_BUILD.search(folder):
        return "kernels imports it with the compiled kernel"
    if name == "pipeline.py" and "model_index.json" in beside:
        return "diffusers runs it as the custom pipeline"
    if name == "model.py" and "config.pbtxt" in layout.names.get(posixpath.dirname(folder), ()):
        return "Triton runs it as the Python backend"
    if root and _DATASET_SCRIPT.search(site.probe.text or ""):
        return "datasets runs it to build the data"
    return None


def _walk(content: Any) -> Iterator[tuple[str, str, Any]]:
    """(path, key, value) of every mapping entry, nested at most `MAX_NESTING` deep."""
    pending: list[tuple[str, Any, int]] = [("", content, 0)]
    while pending:
        field, value, depth = pending.pop()
        if depth > MAX_NESTING:
            continue
        if isinstance(value, dict):
            for key, inner in value.items():
                name = f"{field}.{key}" if field else str(key)
                yield name, str(key), inner
                if isinstance(inner, dict | list):
                    pending.append((name, inner, depth + 1))
        elif isinstance(value, list):
            pending += [(f"{field}[{i}]", inner, depth + 1) for i, inner in enumerate(value)]
