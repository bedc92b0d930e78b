"""One payload under every name, in every archive and compressor, and in files that archive readers disagree about."""

from __future__ import annotations

import io
import pickle
import tarfile
import zipfile
import zlib
from collections.abc import Iterator

from tests.trust.corpus import Sample
from tests.trust.corpus.archive_writers import (
    compressed,
    copied_7z,
    link,
    tarred,
    with_flag,
    with_local_name,
    with_wrong_crc,
    zipped,
)
from tests.trust.corpus.opcodes import PAYLOAD, call, checkpoint, stream

_SUFFIXES = (
    ".pkl .pickle .p .pck .joblib .dill .dat .data .bin .pt .pth .ckpt .model .sav .npy .h5 .onnx .safetensors .txt "
    ".json .md .jpg .yaml .csv .weights .params .pth.tar .tar .zip .gz .cfg .meta .vocab .spm"
).split()
_CODECS = ("gz", "bz2", "xz", "lzma", "z", "zst", "lz4")


def samples() -> Iterator[Sample]:
    """The payload alone under many names, then in containers."""
    for suffix in _SUFFIXES:
        data = checkpoint(attack=call("posix", "system", "echo pwned"))
        yield Sample(f"pickle containers/named model{suffix}", {f"model{suffix}": data}, source="GHSA-769v-p64c-89pr")
    yield Sample("pickle containers/without a suffix", {"model": PAYLOAD})
    yield Sample("pickle containers/hidden file", {".cache": PAYLOAD, "config.json": b"{}"})
    yield Sample(
        "pickle containers/deep in a repository", {"a/b/c/d/e/f/optimizer_state": PAYLOAD, "README.md": b"# x\n"}
    )
    for codec in _CODECS:
        yield Sample(f"pickle containers/{codec}", {f"model.pkl.{codec}": compressed(PAYLOAD, codec)})
        yield Sample(f"pickle containers/{codec} by another name", {"model.joblib": compressed(PAYLOAD, codec)})
    for what, (name, data, source) in _archives().items():
        yield Sample(f"pickle containers/{what}", {name: data}, source=source)


def _archives() -> dict[str, tuple[str, bytes, str]]:
    members = {"README.txt": b"weights\n", "model.pkl": PAYLOAD}
    plain = zipped(members)
    nested = zipped({"a.zip": zipped({"b.tar": tarred({"c.pkl.gz": compressed(PAYLOAD, "gz")})})})
    return {
        "zip": ("model.zip", plain, ""),
        "zip, deflated": ("model.zip", zipped(members, method=zipfile.ZIP_DEFLATED), ""),
        "zip, bzip2": ("model.zip", zipped(members, method=zipfile.ZIP_BZIP2), ""),
        "zip, lzma": ("model.zip", zipped(members, method=zipfile.ZIP_LZMA), ""),
        "zip, member without a suffix": ("model.zip", zipped({"data": PAYLOAD}), ""),
        "zip, member with a suffix of text": ("model.zip", zipped({"notes.txt": PAYLOAD}), ""),
        "zip under another name": ("model.pt", plain, "picklescan, malicious1_wrong_ext"),
        "zip, flag of encryption": ("model.zip", with_flag(plain, 1), "GHSA-w8jq-xcqf-f792"),
        "zip, flag of encryption in the directory": (
            "model.zip",
            with_flag(plain, 1, local=False),
            "GHSA-w8jq-xcqf-f792",
        ),
        "zip, flag of encryption in the local header": (
            "model.zip",
            with_flag(plain, 1, central=False),
            "GHSA-w8jq-xcqf-f792",
        ),
        "zip, flag of patched data": ("model.zip", with_flag(plain, 0x20), "GHSA-w8jq-xcqf-f792"),
        "zip, flag of strong encryption": ("model.zip", with_flag(plain, 0x40), "GHSA-w8jq-xcqf-f792"),
        "zip, names that differ in the local header": (
            "model.zip",
            with_local_name(plain, b"model.pkl", b"notes.txt"),
            "GHSA-7q5r-7gvp-wc82",
        ),
        "zip, wrong checksum": ("model.zip", with_wrong_crc(plain, b"model.pkl"), "CVE-2025-10156"),
        "zip, member twice": ("model.zip", zipped([("model.pkl", pickle.dumps(1)), ("model.pkl", PAYLOAD)]), ""),
        "zip, member twice, the harmless last": (
            "model.zip",
            zipped([("model.pkl", PAYLOAD), ("model.pkl", pickle.dumps(1))]),
            "",
        ),
        "zip, twins by case": ("model.zip", zipped([("model.pkl", pickle.dumps(1)), ("MODEL.PKL", PAYLOAD)]), ""),
        "zip behind text": ("model.zip", b"#! this is text\n" * 40 + plain, ""),
        "zip behind a picture": ("model.png", b"\x89PNG\r\n\x1a\n" + bytes(64) + plain, ""),
        "zip, directory cut off": ("model.zip", plain[: plain.index(b"PK\x01\x02")], ""),
        "zip before bytes": ("model.zip", plain + b"\0" * 300, ""),
        "zip in the comment of a zip": ("model.zip", _commented(plain), ""),
        "payload in the comment of a zip": ("model.pkl", PAYLOAD + zipped({"a.txt": b"x"}), ""),
        "tar": ("model.tar", tarred(members), ""),
        "tar.gz": ("model.tar.gz", tarred(members, mode="w:gz"), ""),
        "tar.bz2": ("model.tar.bz2", tarred(members, mode="w:bz2"), ""),
        "tar.xz": ("model.tar.xz", tarred(members, mode="w:xz"), ""),
        "tar in gz in zip": ("model.zip", zipped({"x.tgz": tarred(members, mode="w:gz")}), ""),
        "tar with a link to the payload": (
            "model.tar",
            tarred({"x": PAYLOAD}, link("model.pkl", "x", tarfile.LNKTYPE)),
            "",
        ),
        "7z": ("model.7z", copied_7z("model.pkl", PAYLOAD), "picklescan, malicious1.7z"),
        "gz twice": ("model.pkl.gz", compressed(compressed(PAYLOAD, "gz"), "gz"), ""),
        "gz of several streams": ("model.pkl.gz", compressed(PAYLOAD[:20], "gz") + compressed(PAYLOAD[20:], "gz"), ""),
        "gz with a broken end": ("model.pkl.gz", compressed(PAYLOAD, "gz")[:-6], ""),
        "archives in archives": ("model.zip", nested, ""),
        "wheel": (
            "model-1.0-py3-none-any.whl",
            zipped({"model/weights.pkl": PAYLOAD, "model-1.0.dist-info/WHEEL": b"Wheel-Version: 1.0\n"}),
            "",
        ),
        "zlib stream behind a joblib head": ("model.joblib", zlib.compress(stream(call("joblib", "load", "x"))), ""),
        ".mar": (
            "model.mar",
            zipped(
                {
                    "MAR-INF/MANIFEST.json": b'{"model": {"serializedFile": "model.pt", "handler": "text_classifier"}}',
                    "model.pt": PAYLOAD,
                }
            ),
            "",
        ),
        ".nemo": (
            "model.nemo",
            tarred({"model_config.yaml": b"name: x\n", "model_weights.ckpt": PAYLOAD}, mode="w:gz"),
            "",
        ),
        "keras archive with a pickle for weights": (
            "model.keras",
            zipped(
                {
                    "config.json": b'{"class_name": "Sequential", "module": "keras", "config": {"layers": []}}',
                    "metadata.json": b"{}",
                    "model.weights.npz": PAYLOAD,
                }
            ),
            "modelscan pull 262",
        ),
        "skops that is a pickle": ("model.skops", PAYLOAD, "CVE-2025-54886"),
    }


def _commented(archive: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as outer:
        outer.writestr("notes.txt", "x")
        outer.comment = archive
    return buffer.getvalue()
