"""Files without a format of their own: numbers that another file of the package describes."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator, Sequence

from regraft.errors import RegraftError
from regraft.package.formats import Description
from regraft.trust.scan.descriptions import description_of
from regraft.trust.scan.entrypoints import configuration, path_of
from regraft.trust.scan.interface import Site
from regraft.trust.scan.onnx import external_files

_TENSOR_BUNDLE = re.compile(r"(?P<stem>.+)\.data-\d{5}-of-\d{5}$")


def raw_files(sites: Sequence[Site]) -> frozenset[str]:
    """Paths of files that a loader reads as plain numbers, because a file beside them says where and how.

    These are shards of TensorFlow.js manifests, external data of ONNX models, the weights beside an
    OpenVINO graph and the data of a TensorFlow checkpoint. Nothing in such a file is ever interpreted.
    """
    paths = {path_of(site) for site in sites}
    found: set[str] = set()
    for site in sites:
        folder = posixpath.dirname(path_of(site))
        found.update(posixpath.normpath(posixpath.join(folder, name)) for name in _described(site))
    for path in paths:
        match = _TENSOR_BUNDLE.match(path)
        if match and f"{match['stem']}.index" in paths:
            found.add(path)
    return frozenset(found & paths)


def _described(site: Site) -> Iterator[str]:
    kind = site.format.name if site.format is not None else ""
    if kind.startswith("openvino"):
        stem = posixpath.basename(path_of(site)).rsplit(".", 1)[0]
        yield f"{stem}.bin"
    elif kind == "onnx":
        description = description_of(site)
        if isinstance(description, Description):
            yield from external_files(description)
    elif site.probe.suffix == ".json":
        yield from _manifest_paths(site)


def _manifest_paths(site: Site) -> Iterator[str]:
    try:
        content = configuration(site)
    except RegraftError:
        return
    groups = content.get("weightsManifest") if isinstance(content, dict) else content
    for group in groups if isinstance(groups, list) else ():
        names = group.get("paths") if isinstance(group, dict) else None
        yield from (name for name in names or () if isinstance(name, str))
