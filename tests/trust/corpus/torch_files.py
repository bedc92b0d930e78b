"""Files of torch: archives, legacy streams, TorchScript, torch.package, exported programs, tars of before 0.1."""

from __future__ import annotations

import pickle
import struct
from collections.abc import Iterator

from tests.trust.corpus import Sample
from tests.trust.corpus.archive_writers import tarred, with_flag, with_wrong_crc, zipped
from tests.trust.corpus.opcodes import COMMAND, PAYLOAD, call, name, stream, text, tuple_of

SYSTEM = call("os", "system", COMMAND)
MAGIC = pickle.dumps(0x1950A86A20F9469CFC6C, 2) + pickle.dumps(1001, 2)
_SYSTEM_INFO = pickle.dumps({"protocol_version": 1001, "little_endian": True, "type_sizes": {}}, 2)


def storage(key: str = "0", elements: int = 2) -> bytes:
    """A tensor as torch.save writes it: rebuilt over a storage that a persistent id names."""
    identity = tuple_of("storage", name("torch", "FloatStorage"), key, "cpu", elements) + b"Q"
    empty = name("collections", "OrderedDict") + b")R"
    return (
        name("torch._utils", "_rebuild_tensor_v2")
        + tuple_of(identity, 0, tuple_of(elements), tuple_of(1), b"\x89", empty)
        + b"R"
    )


def archive(data: bytes, *, root: str = "archive", **members: bytes) -> bytes:
    """A torch zip."""
    files = {"data.pkl": data, "byteorder": b"little", "data/0": struct.pack("<2f", 1, 2), "version": b"3\n", **members}
    return zipped({f"{root}/{path}": content for path, content in files.items()})


def weights(attack: bytes = b"") -> bytes:
    """The pickle of a state dict, with an attack as its last value."""
    last = text("x") + attack if attack else b""
    return stream(b"}(", text("linear.weight"), storage(), last, b"u", protocol=2)


def samples() -> Iterator[Sample]:
    """Every file of torch that can hide a call."""
    for what, (path, data, source) in {**_archives(), **_legacy(), **_programs()}.items():
        yield Sample(f"torch files/{what}", {path: data}, source=source)
    yield Sample(
        "torch files/rng state of a trainer",
        {"checkpoint-1/rng_state.pth": archive(weights(SYSTEM)), "config.json": b"{}"},
        source="CVE-2026-1839",
    )
    yield Sample(
        "torch files/optimizer beside safetensors",
        {
            "model.safetensors": struct.pack("<Q", 2) + b"{}",
            "optimizer.pt": archive(weights(SYSTEM)),
            "config.json": b"{}",
        },
    )
    yield Sample(
        "torch files/training arguments", {"training_args.bin": archive(weights(SYSTEM)), "config.json": b"{}"}
    )


def _archives() -> dict[str, tuple[str, bytes, str]]:
    attack = archive(weights(SYSTEM))
    return {
        "state dict": ("pytorch_model.bin", attack, ""),
        "instead of the state dict": ("pytorch_model.bin", archive(stream(SYSTEM)), ""),
        "behind the state dict": ("pytorch_model.bin", archive(weights() + PAYLOAD), ""),
        "state of a parameter": (
            "model.pt",
            archive(stream(name("torch._utils", "_rebuild_parameter"), tuple_of(storage(), b"\x89", SYSTEM), b"R")),
            "",
        ),
        "hooks of a tensor": (
            "model.pt",
            archive(
                stream(
                    name("torch._utils", "_rebuild_tensor_v2"),
                    tuple_of(b"N", 0, tuple_of(1), tuple_of(1), b"\x89", SYSTEM),
                    b"R",
                )
            ),
            "",
        ),
        "persistent id that is a call": ("model.pt", archive(stream(SYSTEM, b"Q")), ""),
        "persistent id of another kind": ("model.pt", archive(stream(tuple_of("module", SYSTEM), b"Q")), ""),
        "root with another name": ("model.pt", archive(weights(SYSTEM), root="model/x"), ""),
        "data.pkl twice": (
            "model.pt",
            zipped(
                [
                    ("archive/data.pkl", weights()),
                    ("archive/version", b"3\n"),
                    ("archive/data.pkl", weights(SYSTEM)),
                    ("archive/data/0", bytes(8)),
                ]
            ),
            "",
        ),
        "data.pkl in two roots": (
            "model.pt",
            zipped(
                [
                    ("a/data.pkl", weights()),
                    ("a/version", b"3\n"),
                    ("b/data.pkl", weights(SYSTEM)),
                    ("b/version", b"3\n"),
                ]
            ),
            "",
        ),
        "data.pkl by another case": (
            "model.pt",
            zipped(
                [("archive/data.pkl", weights()), ("archive/version", b"3\n"), ("archive/DATA.PKL", weights(SYSTEM))]
            ),
            "",
        ),
        "encryption flag": ("model.pt", with_flag(attack, 1), "GHSA-w8jq-xcqf-f792"),
        "wrong checksum": ("model.pt", with_wrong_crc(attack, b"archive/data.pkl"), "CVE-2025-10156"),
        "prefixed by text": ("model.pt", b"weights\n" * 30 + attack, ""),
        "a pickle among the tensors": ("model.pt", archive(weights(), **{"data/payload.pkl": PAYLOAD}), ""),
        "a pickle beside data.pkl": ("model.pt", archive(weights(), **{"extra/optimizer": PAYLOAD}), ""),
        "under the name of safetensors": ("model.safetensors", attack, ""),
        "under the name of a picture": ("logo.png", attack, ""),
        "Lightning checkpoint": (
            "last.ckpt",
            archive(stream(b"}(", text("state_dict"), b"}", text("callbacks"), SYSTEM, b"u")),
            "",
        ),
        "NeMo": (
            "model.nemo",
            tarred(
                {
                    "model_config.yaml": b"target: nemo.collections.asr.models.EncDecCTCModel\n",
                    "model_weights.ckpt": attack,
                }
            ),
            "",
        ),
        "torchserve archive": (
            "model.mar",
            zipped(
                {
                    "MAR-INF/MANIFEST.json": b'{"model": {"serializedFile": "model.pt", "handler": "handler.py"}}',
                    "handler.py": b"import os\nos.system('echo pwned')\n",
                    "model.pt": archive(weights()),
                }
            ),
            "",
        ),
        "rebuild from another type": (
            "model.pt",
            archive(
                stream(
                    call(
                        "torch._tensor",
                        "_rebuild_from_type_v2",
                        name("os", "system"),
                        name("torch", "Tensor"),
                        tuple_of(COMMAND),
                        b"}",
                    )
                )
            ),
            "",
        ),
        "wrapper subclass": (
            "model.pt",
            archive(
                stream(
                    call("torch._utils", "_rebuild_wrapper_subclass", name("subprocess", "Popen"), tuple_of(COMMAND))
                )
            ),
            "",
        ),
    }


def _legacy() -> dict[str, tuple[str, bytes, str]]:
    body = MAGIC + _SYSTEM_INFO
    keys = pickle.dumps([], 2)
    return {
        "legacy": ("model.pth", body + stream(SYSTEM, protocol=2) + keys, ""),
        "legacy, in the system information": ("model.pth", MAGIC + PAYLOAD + weights() + keys, ""),
        "legacy, in the list of keys": ("model.pth", body + stream(b"}", protocol=2) + PAYLOAD, ""),
        "legacy, instead of the magic": (
            "model.pth",
            stream(call("builtins", "eval", "0x1950a86a20f9469cfc6c")) + body,
            "picklescan, pytorch_magic_bypass",
        ),
        "legacy, magic computed": (
            "model.pth",
            stream(call("builtins", "int", "119547037146038801333356")) + pickle.dumps(1001, 2) + PAYLOAD,
            "",
        ),
        "legacy, protocol version that acts": (
            "model.pth",
            pickle.dumps(0x1950A86A20F9469CFC6C, 2) + PAYLOAD + body,
            "",
        ),
        "legacy, under the name .pkl": ("nnet-model.pkl", body + stream(SYSTEM, protocol=2) + keys, ""),
        "tar of before 0.1.10": (
            "model.pt",
            tarred(
                {
                    "sys_info": _SYSTEM_INFO,
                    "pickle": PAYLOAD,
                    "storages": pickle.dumps(0, 2),
                    "tensors": pickle.dumps(0, 2),
                }
            ),
            "",
        ),
        "tar, in the storages": (
            "model.pt",
            tarred(
                {
                    "sys_info": _SYSTEM_INFO,
                    "pickle": pickle.dumps({}, 2),
                    "storages": PAYLOAD,
                    "tensors": pickle.dumps(0, 2),
                }
            ),
            "",
        ),
        "whole module with its source": (
            "model.pt",
            body
            + stream(
                tuple_of("module", name("os", "system"), "model.py", "import os"),
                b"Q",
                tuple_of(COMMAND),
                b"R",
                protocol=2,
            )
            + keys,
            "",
        ),
    }


def _programs() -> dict[str, tuple[str, bytes, str]]:
    module = stream(name("__torch__", "M"), b")\x81}b", protocol=2)

    def script(code: str, data: bytes = module, **more: bytes) -> bytes:
        files = {
            "data.pkl": data,
            "constants.pkl": b"\x80\x02).",
            "version": b"3\n",
            "code/__torch__.py": code.encode(),
            **more,
        }
        return zipped({f"m/{path}": content for path, content in files.items()})

    head = "class M(Module):\n  __parameters__ = []\n  def forward(self: __torch__.M, x: Tensor) -> Tensor:\n"
    exported = {"archive_format": b"pt2", "version": b"1", "byteorder": b"little"}
    return {
        "TorchScript that writes a file": (
            "model.pt",
            script(head + '    torch.save(x, "/tmp/x")\n    return x\n'),
            "",
        ),
        "TorchScript that maps a file": (
            "model.pt",
            script(head + '    y = torch.from_file("/etc/passwd", False, 10)\n    return y\n'),
            "",
        ),
        "TorchScript whose constants act": (
            "model.pt",
            script(head + "    return x\n", **{"constants.pkl": PAYLOAD}),
            "",
        ),
        "TorchScript with a pickle among its extra files": (
            "model.pt",
            script(head + "    return x\n", **{"extra/x": PAYLOAD}),
            "",
        ),
        "TorchScript whose data acts": ("model.pt", script(head + "    return x\n", data=PAYLOAD), ""),
        "torch.package": (
            "model.pt",
            zipped(
                {
                    "p/.data/version": b"6\n",
                    "p/.data/python_version": b"3.11.7\n",
                    "p/.data/extern_modules": b"os\n",
                    "p/model/model.pkl": stream(name("model.net", "Net"), b")\x81"),
                    "p/model/__init__.py": b"",
                    "p/model/net.py": b"import os\nos.system('echo pwned')\nclass Net: pass\n",
                }
            ),
            "",
        ),
        "torch.package, pickle that acts": (
            "model.pt",
            zipped({"p/.data/version": b"6\n", "p/.data/extern_modules": b"os\n", "p/model/model.pkl": PAYLOAD}),
            "",
        ),
        "exported program with pickled weights": (
            "model.pt2",
            zipped({f"m/{k}": v for k, v in exported.items()} | {"m/data/weights/model.pt": PAYLOAD}),
            "",
        ),
        "exported program with a compiled library": (
            "model.pt2",
            zipped(
                {f"m/{k}": v for k, v in exported.items()}
                | {"m/data/aotinductor/model/x.wrapper.so": b"\x7fELF" + bytes(60)}
            ),
            "",
        ),
        "exported program with pickled sample inputs": (
            "model.pt2",
            zipped(
                {f"m/{k}": v for k, v in exported.items()} | {"m/data/sample_inputs/model.pt": archive(stream(SYSTEM))}
            ),
            "",
        ),
    }
