"""Rules about what a repository makes a loader fetch, follow or call beyond its own files."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator, Sequence

from regraft.package.package import Package
from regraft.record.evidence import Finding, Severity
from regraft.trust.scan.entrypoints import (
    Reference,
    configuration,
    is_innocent,
    is_unreadable_configuration,
    local_file,
    path_of,
    references,
    targets_in_text,
)
from regraft.trust.scan.interface import Rule, Site
from regraft.trust.scan.pickle_dangers import danger_of
from regraft.trust.scan.python.effects import Kind, kind_of

REMOTE_CODE = Rule(
    "RGS-REP-001",
    Severity.UNKNOWN,
    "Code of another repository would be loaded",
    "The loader fetches this code from elsewhere when the model is loaded: what it is can change at any time.",
    "Scan that repository at a fixed revision, then pass --allow RGS-REP-001:FILE.",
    cwe=829,
)
MISSING_CODE = Rule(
    "RGS-REP-002",
    Severity.UNKNOWN,
    "Code is named that is not here",
    "A configuration names a module that the package does not contain; a loader may find another of that name.",
    "Get the complete package, or remove the entry.",
    cwe=829,
)
DANGEROUS_CALL = Rule(
    "RGS-REP-003",
    Severity.CRITICAL,
    "A configuration makes its loader call something dangerous",
    "The loader imports the name in this field and calls it with arguments from the same file.",
    "Do not load this package. Report it to where you got it from.",
    cwe=470,
)
FOREIGN_CALL = Rule(
    "RGS-REP-004",
    Severity.UNKNOWN,
    "A configuration names a class to import and call",
    "The loader imports the name in this field and calls it; the library that it belongs to is not known here.",
    "Look at what the name does, then pass --allow NAME.",
    cwe=470,
)
LEADS_OUT = Rule(
    "RGS-REP-005",
    Severity.HIGH,
    "A file is named outside of the package",
    "The loader opens files by these names: '..' and absolute paths make it read files of your own.",
    "Do not load this package. Report it to where you got it from.",
    cwe=22,
)
MISSING_SHARD = Rule(
    "RGS-REP-006",
    Severity.INFO,
    "A shard is missing",
    "The index names files that are not here; loading will fail or fetch them from elsewhere.",
    "Fetch the complete package.",
)
OTHER_BASE = Rule(
    "RGS-REP-007",
    Severity.INFO,
    "An adapter that loads another model as its base",
    "Loading the adapter fetches and loads that model too; this scan did not look at it.",
    "Scan the base model as well, at the revision that you will use.",
)
NO_BASE_NAME = Rule(
    "RGS-REP-008",
    Severity.HIGH,
    "A base model is named by something that is no model",
    "The name climbs out of the folder, is an address, or hides characters: the loader would open what it points to.",
    "Do not load this package. Report it to where you got it from.",
    cwe=22,
)

UNASKED_CODE = Rule(
    "RGS-REP-010",
    Severity.HIGH,
    "Code of another repository would be loaded without consent",
    "The key is one that the library writes for itself. Set by hand, it made transformers before 5.3 fetch and run "
    "that repository's code although remote code was not trusted (CVE-2026-4372).",
    "Do not load this package. Report it to where you got it from.",
    cwe=829,
)
UNREADABLE = Rule(
    "RGS-REP-009",
    Severity.UNKNOWN,
    "A configuration that names code cannot be parsed",
    "It mentions a key that makes loaders import code, but is too large, too deep or not well-formed.",
    "Get a sound copy; look at what the key names.",
)

_KNOWN_LIBRARIES = frozenset(
    "torch transformers diffusers pytorch_lightning lightning lightning_fabric torchvision torchaudio torchmetrics "
    "hydra omegaconf nemo sklearn timm peft accelerate monai datasets tokenizers pyannote speechbrain "
    "sentence_transformers flair keras tensorflow jax flax optax audiocraft fairseq fairseq2 "
    "mmengine mmcv mmdet espnet2 nnunetv2 rfdetr ultralytics".split()
)
_KERNEL_PUBLISHER = "kernels-community"
"""Whose kernels transformers loads without being told to; it names them itself in configurations it writes."""
_BASE_NAME = re.compile(r"[\w.-]+(/[\w.-]+)?")
_OUT = re.compile(r"(^|[/\\])\.\.([/\\]|$)|^[/\\~]|^[A-Za-z]:[\\/]|^\w+://|\x00")


class RepositoryFamily:
    """Follows what configurations and indices name."""

    name = "repository"
    judges: frozenset[str] = frozenset()
    rules: Sequence[Rule] = (
        REMOTE_CODE,
        MISSING_CODE,
        DANGEROUS_CALL,
        FOREIGN_CALL,
        LEADS_OUT,
        MISSING_SHARD,
        OTHER_BASE,
        NO_BASE_NAME,
        UNREADABLE,
        UNASKED_CODE,
    )

    def examine(self, site: Site) -> Iterator[Finding]:
        """Nothing: references are judged against the whole package."""
        return iter(())

    def examine_package(self, package: Package, sites: Sequence[Site]) -> Iterator[Finding]:
        """Findings about every reference in every configuration."""
        paths = {path_of(site) for site in sites}
        modules = {path.split("/")[0].removesuffix(".py") for path in paths if path.endswith(".py")}
        for site in sites:
            for reference in references(site):
                yield from _judge(reference, paths, modules)
            for field, name in targets_in_text(site):
                if is_dangerous(name):
                    yield DANGEROUS_CALL.finding(f"{field} calls {name}", site.where(field=field), call=name)
            if is_unreadable_configuration(site):
                yield UNREADABLE.finding("a key that names code, in a file that cannot be parsed", site.where())
            if site.probe.basename.endswith((".index.json", "model.json")):
                yield from _index(site, paths)


def _judge(reference: Reference, paths: set[str], modules: set[str]) -> Iterator[Finding]:
    value, where = reference.value, reference.site.where(field=reference.field)
    if reference.kind == "base-model":
        yield from _base_model(reference)
    elif reference.kind == "kernel":
        if value.split("/")[0].rpartition("|")[2] != _KERNEL_PUBLISHER:
            rule = UNASKED_CODE if reference.field.endswith("_attn_implementation_internal") else REMOTE_CODE
            yield rule.finding(f"{reference.field} loads compiled kernels from {value}", where, name=value)
    elif reference.kind == "remote":
        yield REMOTE_CODE.finding(f"{reference.field} loads code from {value}", where, name=value)
    elif reference.kind == "file":
        yield LEADS_OUT.finding(f"{reference.field} names {value!r}", where, target=value)
    elif reference.kind == "library":
        if is_dangerous(f"{value}.x") or value.split(".")[0] not in _KNOWN_LIBRARIES:
            yield FOREIGN_CALL.finding(f"{reference.field} imports {value}", where, name=value)
    elif reference.kind == "loader-module":
        if is_dangerous(f"{value}.x"):
            yield DANGEROUS_CALL.finding(f"{reference.field} imports {value}", where, call=value)
        elif not value.startswith("mlflow."):
            yield FOREIGN_CALL.finding(f"{reference.field} imports {value}", where, name=value)
    elif reference.kind == "import-path":
        if is_dangerous(value):
            yield DANGEROUS_CALL.finding(f"{reference.field} calls {value}", where, call=value)
    elif reference.kind == "pipeline-part" and is_dangerous(library := value.partition(".")[2]):
        yield DANGEROUS_CALL.finding(f"{reference.field} imports {library}", where, call=library)
    elif "--" in value:
        repository, _, name = value.partition("--")
        yield REMOTE_CODE.finding(f"{reference.field} loads {name} from {repository}", where, name=value)
    elif reference.kind in ("target", "module-type"):
        yield from _call(reference, paths, modules)
    elif (target := local_file(reference)) is not None and target[0] not in paths:
        yield MISSING_CODE.finding(f"{reference.field} names {value}, but {target[0]} is not here", where, name=value)


def _call(reference: Reference, paths: set[str], modules: set[str]) -> Iterator[Finding]:
    value, where = reference.value, reference.site.where(field=reference.field)
    head = value.split(".")[0]
    target = local_file(reference)
    if is_dangerous(value):
        yield DANGEROUS_CALL.finding(f"{reference.field} calls {value}", where, call=value)
    elif not (
        is_innocent(value)
        or head in modules
        or (target is not None and target[0] in paths)
        or (reference.kind == "target" and head in _KNOWN_LIBRARIES)
    ):
        yield FOREIGN_CALL.finding(f"{reference.field} imports {value}", where, name=value)


def is_dangerous(dotted: str) -> bool:
    """Would calling this name do more than compute?"""
    module, _, name = (dotted if "." in dotted else f"builtins.{dotted}").rpartition(".")
    return danger_of(module, name) is not None or kind_of(f"{module}.{name}") not in (None, Kind.DYNAMIC)


def is_known_library(dotted: str) -> bool:
    """Does this name lie in one of the libraries whose classes configurations ordinarily name?"""
    head, _, rest = dotted.partition(".")
    return bool(rest) and (is_innocent(dotted) or head in _KNOWN_LIBRARIES)


def _base_model(reference: Reference) -> Iterator[Finding]:
    value, where = reference.value, reference.site.where(field=reference.field)
    if not _BASE_NAME.fullmatch(value) and _OUT.search(value):
        rule = OTHER_BASE if value.startswith(("/", "~")) and ".." not in value else NO_BASE_NAME
        yield rule.finding(f"the base is {value!r}", where, base=value)
    else:
        yield OTHER_BASE.finding(f"the base is {value}", where, base=value)


def _index(site: Site, paths: set[str]) -> Iterator[Finding]:
    folder = posixpath.dirname(path_of(site))
    missing = []
    for name in dict.fromkeys(_named_files(site)):
        if _OUT.search(name):
            yield LEADS_OUT.finding(f"the index names {name!r}", site.where(), target=name)
        elif posixpath.normpath(posixpath.join(folder, name)) not in paths:
            missing.append(name)
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        yield MISSING_SHARD.finding(f"{missing[0]}{more} is not here", site.where(), files=list(missing[:20]))


def _named_files(site: Site) -> Iterator[str]:
    """Files that an index of shards names: safetensors and torch (`weight_map`), TensorFlow.js (`paths`)."""
    content = configuration(site)
    if not isinstance(content, dict):
        return
    shards = content.get("weight_map")
    if isinstance(shards, dict):
        yield from (name for name in shards.values() if isinstance(name, str))
    groups = content.get("weightsManifest")
    for group in groups if isinstance(groups, list) else ():
        names = group.get("paths") if isinstance(group, dict) else None
        yield from (name for name in names or () if isinstance(name, str))
