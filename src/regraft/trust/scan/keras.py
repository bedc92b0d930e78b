"""Rules about Keras models: what rebuilding the architecture imports, calls, reads or decodes."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from regraft.package.formats import Description
from regraft.package.formats.keras import config_objects, model_config, training_config
from regraft.package.limits import MAX_TEXT_BYTES
from regraft.package.package import Package
from regraft.record.evidence import Finding, Severity
from regraft.trust.scan.descriptions import description_of
from regraft.trust.scan.interface import Rule, Site
from regraft.trust.scan.repository import is_dangerous

if TYPE_CHECKING:
    from regraft.package.formats.keras import JSON

HARMFUL_LAMBDA = Rule(
    "RGS-KER-001",
    Severity.CRITICAL,
    "A Lambda layer whose code acts on the machine",
    "The layer carries compiled Python that Keras runs; its names include a shell, evaluation, network or imports.",
    "Do not load this model. Report it to where you got it from.",
    cwe=502,
)
LAMBDA = Rule(
    "RGS-KER-002",
    Severity.UNKNOWN,
    "A Lambda layer",
    "The layer carries compiled Python, or names a function that must be supplied: what it does cannot be proved.",
    "Load with safe_mode=True, or rebuild the layer from source and load only the weights.",
    cwe=502,
)
DANGEROUS_OBJECT = Rule(
    "RGS-KER-003",
    Severity.CRITICAL,
    "The architecture names a dangerous object",
    "Keras imports `module` and calls `class_name` from it with arguments of the file.",
    "Do not load this model. Report it to where you got it from.",
    cwe=470,
)
REACHING_OBJECT = Rule(
    "RGS-KER-004",
    Severity.HIGH,
    "The architecture makes Keras reach outside of the model",
    "It names a helper that downloads, opens another file, unpickles, or turns safe mode off while loading.",
    "Do not load this model. Report it to where you got it from.",
    cwe=470,
)
CUSTOM_OBJECT = Rule(
    "RGS-KER-005",
    Severity.UNKNOWN,
    "The architecture names objects outside of Keras",
    "Loading imports or demands code that is not part of Keras.",
    "Find out where the class comes from; scan that package too.",
    cwe=470,
)
EXTERNAL_DATA = Rule(
    "RGS-KER-006",
    Severity.UNKNOWN,
    "The HDF5 file refers to other files",
    "External links and external storage make HDF5 read files by names that the model chooses.",
    "Get a file that stands on its own.",
    cwe=73,
)

LEADS_OUT = Rule(
    "RGS-KER-007",
    Severity.HIGH,
    "The HDF5 file reads a file of yours",
    "External links and external storage with an absolute path, or one that climbs, put the content of your own files "
    "into the weights when the model is loaded (CVE-2026-1669).",
    "Do not load this model. Report it to where you got it from.",
    cwe=73,
)

_OUT = re.compile(r"(^|[\s,'\"/\\])\.\.([/\\]|$)|(^|[\s,'\"])[/\\~]|(^|[\s,'\"])[A-Za-z]:[\\/]|\w+://")
_KERAS_MODULES = ("keras", "tensorflow", "tf_keras", "keras_core", "keras_nlp", "keras_hub", "keras_cv")
_LAMBDAS = frozenset({"Lambda", "__lambda__"})
_PLAIN_BUILTINS = frozenset(
    {"int", "float", "str", "bool", "tuple", "list", "dict", "set", "slice", "bytes", "complex"}
)
_REACHING = frozenset(
    "get_file load_model load_weights save_model enable_unsafe_deserialization TorchModuleWrapper "
    "deserialize_keras_object copy makedirs download urlretrieve extract_archive FileWriter run_code".split()
)
_COMPUTING = re.compile(
    r"(keras|tf_keras|keras_core|tensorflow\.keras|keras_nlp|keras_hub|keras_cv|tensorflow)"
    r"(\.(src|api|_tf_keras|v2|python|keras|legacy))*"
    r"(\.(activations|backend|constraints|dtype_policies|initializers|layers|losses|math|metrics|nn|ops|optimizers|"
    r"quantizers|random|regularizers)(\.|$)|$)"
)
"""Modules of Keras whose functions an architecture may name: they compute. Others load, download, read or register."""
_LOOKUPS = frozenset({"StringLookup", "IntegerLookup", "TextVectorization", "IndexLookup", "Hashing"})
_HARMFUL_WORDS = re.compile(
    rb"\b(system|popen|Popen|subprocess|exec|eval|__import__|socket|urlopen|urlretrieve|requests|builtins|marshal|"
    rb"check_output|check_call|spawn|execv[pe]*|ctypes|unlink|rmtree|remove|getattr|globals|compile|posix|environ|"
    rb"write|open|import_module|b64decode|pickle|b?a?sh|curl|wget)\b"
)


class KerasFamily:
    """Judges the serialised architecture of `.h5`, `.keras`, and JSON models."""

    name = "keras"
    judges: frozenset[str] = frozenset({"keras-h5", "keras-v3"})
    rules: Sequence[Rule] = (
        HARMFUL_LAMBDA,
        LAMBDA,
        DANGEROUS_OBJECT,
        REACHING_OBJECT,
        CUSTOM_OBJECT,
        EXTERNAL_DATA,
        LEADS_OUT,
    )

    def examine(self, site: Site) -> Iterator[Finding]:
        """Findings about one model file."""
        reported: set[tuple[str, str]] = set()
        for item in (item for config in _configs(site) for item in config_objects(config)):
            for rule, message, name in _judge(item):
                if (rule.id, name) not in reported:
                    reported.add((rule.id, name))
                    yield rule.finding(message, site.where(field=_field(item)), name=name)
        description = description_of(site) if _is_hdf5(site) else None
        if isinstance(description, Description):
            for key in sorted(description.metadata):
                if key.startswith("external"):
                    rule = LEADS_OUT if _OUT.search(description.metadata[key]) else EXTERNAL_DATA
                    yield rule.finding(f"{key}: {description.metadata[key][:200]}", site.where(field=key))

    def examine_package(self, package: Package, sites: Sequence[Site]) -> Iterator[Finding]:
        """Nothing: models are judged one by one."""
        return iter(())


def _is_hdf5(site: Site) -> bool:
    return site.format is not None and site.format.name in ("keras-h5", "keras-v3", "hdf5")


def _configs(site: Site) -> Iterator[JSON]:
    """The architecture, and what a model was compiled with: its losses and metrics are built with it."""
    kind = site.format.name if site.format is not None else ""
    if kind in ("keras-h5", "keras-v3"):
        yield from (config for config in (model_config(site.probe), training_config(site.probe)) if config is not None)
    else:
        yield _of_json(site)


def _of_json(site: Site) -> JSON:
    if site.probe.suffix != ".json" or site.inside == "keras-v3" or b"class_name" not in _text(site):
        return None
    content = site.probe.json
    if not isinstance(content, dict):
        return None
    topology = content.get("modelTopology")
    if isinstance(topology, dict):
        return topology.get("model_config") or topology
    return content if "class_name" in content and "config" in content else None


def _text(site: Site) -> bytes:
    size = site.probe.reader.size
    return site.probe.reader.read_at(0, size) if size <= MAX_TEXT_BYTES else b""


def _judge(item: dict[str, JSON]) -> Iterator[tuple[Rule, str, str]]:
    class_name, module = str(item["class_name"]), item.get("module")
    config = item.get("config")
    label = item.get("registered_name")
    if class_name in _LAMBDAS:
        yield from _lambda(class_name, config)
    elif isinstance(module, str) and module:
        yield from _module_object(module, class_name, config)
    elif is_dangerous(class_name) and "." in class_name:
        yield DANGEROUS_OBJECT, f"names {class_name}", class_name
    if ">" in class_name or (isinstance(label, str) and ">" in label):
        custom = class_name if ">" in class_name else str(label)
        if custom.partition(">")[0] not in ("keras", "keras_nlp", "keras_hub", "keras_cv", "Addons"):
            yield CUSTOM_OBJECT, f"names the registered object {custom}", custom
    if class_name in _REACHING:
        yield REACHING_OBJECT, f"names {class_name}", class_name
    if isinstance(config, dict):
        yield from _paths(class_name, config)


def _module_object(module: str, class_name: str, config: JSON) -> Iterator[tuple[Rule, str, str]]:
    if class_name == "function" and module != "builtins" and isinstance(config, str):
        class_name = config  # a function is written as its module and, for a config, its name
    named = f"{module}.{class_name}"
    if module == "builtins" and class_name in _PLAIN_BUILTINS:
        return
    if module == "builtins" and class_name == "function":
        function = str(config)
        rule = DANGEROUS_OBJECT if is_dangerous(function) else CUSTOM_OBJECT
        yield rule, f"names the function {function[:100]}", function[:100]
    elif is_dangerous(named):
        yield DANGEROUS_OBJECT, f"makes Keras import and call {named}", named
    elif module.split(".", maxsplit=1)[0] not in _KERAS_MODULES:
        yield CUSTOM_OBJECT, f"makes Keras import {named}", named
    elif class_name[:1].islower() and (class_name in _REACHING or not _COMPUTING.match(module)):
        yield REACHING_OBJECT, f"makes Keras call {named}", named


def _paths(class_name: str, config: dict[str, JSON]) -> Iterator[tuple[Rule, str, str]]:
    vocabulary = config.get("vocabulary")
    if class_name in _LOOKUPS and isinstance(vocabulary, str) and vocabulary:
        yield REACHING_OBJECT, f"{class_name} reads the file {vocabulary[:200]!r} while loading", class_name
    path = config.get("filepath")
    if class_name == "TFSMLayer" and isinstance(path, str):
        yield REACHING_OBJECT, f"TFSMLayer loads another model from {path[:200]!r}", class_name


def _lambda(class_name: str, config: JSON) -> Iterator[tuple[Rule, str, str]]:
    code = b"".join(_code_texts(config))
    if not code and class_name == "Lambda" and isinstance(config, dict):
        function = config.get("function")
        if isinstance(function, dict):
            return  # the nested object is judged on its own
        named = f"{config.get('module')}.{function}"
        if isinstance(function, str) and is_dangerous(named):  # Keras 2 looks the function up in this module
            yield DANGEROUS_OBJECT, f"a Lambda layer that calls {named[:100]}", named[:100]
            return
        yield LAMBDA, f"a Lambda layer that needs the function {str(function)[:80]!r}", "Lambda"
        return
    words = sorted({match.decode() for match in _HARMFUL_WORDS.findall(_words(code)) if isinstance(match, bytes)})
    if words:
        yield HARMFUL_LAMBDA, "a Lambda layer's code uses " + ", ".join(words[:8]), class_name
    else:
        yield LAMBDA, "a Lambda layer carries compiled Python", class_name


def _words(code: bytes) -> bytes:
    """The identifiers and texts in marshalled code, one a line: its names stand there in clear."""
    return b"\n".join(re.findall(rb"[\x20-\x7e]{3,}", code))


def _code_texts(config: JSON) -> Iterator[bytes]:
    """Base64 (Keras 2 and 3) or raw (Keras 1) code of a Lambda's functions."""
    if not isinstance(config, dict):
        return
    for key in ("function", "output_shape", "mask", "code"):
        value = config.get(key)
        text = value[0] if isinstance(value, list) and value else value
        if isinstance(text, str) and len(text) > 16:
            try:
                yield base64.b64decode(text, validate=False)
            except (binascii.Error, ValueError):
                yield text.encode("utf-8", "replace")


def _field(item: dict[str, JSON]) -> str | None:
    inner = item.get("config")
    name = inner.get("name") if isinstance(inner, dict) else None
    return name[:200] if isinstance(name, str) else None
