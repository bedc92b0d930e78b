"""A CNCF ModelPack artifact as an OCI image layout on disk: every file a layer, uncompressed.

Source: ModelPack model-spec, specs-go/v1 (media types, annotations) and schema/config-schema.json;
OCI image-spec 1.1, image-layout.md and manifest.md.
"""

from __future__ import annotations

import json
from pathlib import Path, PurePosixPath

from regraft.deployment.bundle.interface import Carried, Contents, place, require_distinct
from regraft.record.digest import Digest, digest_bytes

_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_INDEX = "application/vnd.oci.image.index.v1+json"
_ARTIFACT = "application/vnd.cncf.model.manifest.v1+json"
_CONFIG = "application/vnd.cncf.model.config.v1+json"
_LAYERS = {
    "model": "application/vnd.cncf.model.weight.v1.raw",
    "config": "application/vnd.cncf.model.weight.config.v1.raw",
    "doc": "application/vnd.cncf.model.doc.v1.raw",
    "code": "application/vnd.cncf.model.code.v1.raw",
}
_FILE = "org.cncf.model.filepath"
_FORMATS = {
    ".onnx": "onnx", ".xml": "openvino", ".safetensors": "safetensors", ".gguf": "gguf", ".pt": "pt", ".pt2": "pt2",
    ".tflite": "tflite", ".h5": "keras", ".keras": "keras",
}  # fmt: skip


class Oci:
    """`--as oci`."""

    name = "oci"
    takes = ()

    def readme(self, contents: Contents) -> str:
        """How it goes to a registry and into a container."""
        return (
            f"    oras cp --from-oci-layout .:latest registry.example.com/models/{contents.name.lower()}:latest\n"
            f"    modctl pull registry.example.com/models/{contents.name.lower()}:latest --extract-dir model\n\n"
            "Kubernetes mounts it as an image volume. To serve it, extract it and bundle the files as `triton`,\n"
            "`ovms` or `plain`.\n"
        )

    def graph(self, contents: Contents) -> str:
        """Never asked: the layout holds files, not networks."""
        return contents.network.file

    def write(self, contents: Contents, folder: Path) -> None:
        """`oci-layout`, `index.json`, and the blobs under their digests."""
        named = _named(contents)
        carried = tuple(one for _, one in named)
        blobs = folder / "blobs" / "sha256"
        distinct = {one.sha256: one for one in carried}  # files of one content are one blob
        place(
            contents,
            folder,
            # the papers lie in the open for who looks into the folder; tools look at the index alone
            [(f"blobs/sha256/{digest}", one) for digest, one in distinct.items()]
            + [(one.name, one) for one in contents.extra],
        )
        config = _blob(blobs, _config(contents, carried))
        layers = [
            {
                "mediaType": _LAYERS[one.kind],
                "digest": f"sha256:{one.sha256}",
                "size": one.size_bytes,
                "annotations": {_FILE: name},
            }
            for name, one in named
        ]
        manifest = {
            "schemaVersion": 2,
            "mediaType": _MANIFEST,
            "artifactType": _ARTIFACT,
            "config": {"mediaType": _CONFIG, **config},
            "layers": layers,
            "annotations": {"org.opencontainers.image.title": contents.name},
        }
        described = {"mediaType": _MANIFEST, "artifactType": _ARTIFACT, **_blob(blobs, manifest)}
        described["annotations"] = {"org.opencontainers.image.ref.name": "latest"}
        index = {"schemaVersion": 2, "mediaType": _INDEX, "manifests": [described]}
        (folder / "index.json").write_bytes(_json(index))
        (folder / "oci-layout").write_bytes(_json({"imageLayoutVersion": "1.0.0"}))


def _named(contents: Contents) -> list[tuple[str, Carried]]:
    """Every file, and where it is when the layers are extracted: papers make way for files of the package."""
    own = {part for one in contents.files for part in (one.name, one.name.partition("/")[0])}
    is_apart = any(one.name in own or one.name.partition("/")[0] in own for one in contents.extra)
    papers = [(f"bundle/{one.name}" if is_apart else one.name, one) for one in contents.extra]
    named = [*((one.name, one) for one in contents.files), *papers]
    require_distinct([(PurePosixPath(name), one) for name, one in named], contents.reference)
    return named


def _config(contents: Contents, carried: tuple[Carried, ...]) -> dict[str, object]:
    largest = max((one for one in contents.files if one.kind == "model"), key=lambda one: one.size_bytes, default=None)
    kind = _FORMATS.get(Path(largest.name).suffix) if largest is not None else None
    precision = contents.graph.precision if contents.graph is not None else None
    described = {
        "name": contents.name,
        "revision": contents.digest,
        "licenses": [contents.licence] if contents.licence else None,
        "sourceURL": contents.source if "://" in contents.source else None,
    }
    told = {"format": kind, "precision": precision}
    return {
        "descriptor": {key: value for key, value in described.items() if value is not None},
        "config": {key: value for key, value in told.items() if value is not None},
        "modelfs": {"type": "layers", "diffIds": [f"sha256:{one.sha256}" for one in carried]},
    }


def _blob(blobs: Path, value: object) -> dict[str, object]:
    """Store a JSON document under its digest; its descriptor without the media type."""
    content = _json(value)
    digest: Digest = digest_bytes(content)
    (blobs / digest).write_bytes(content)
    return {"digest": f"sha256:{digest}", "size": len(content)}


def _json(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()
