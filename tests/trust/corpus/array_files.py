"""Pickles inside files of arrays and estimators: numpy, joblib, skops, pandas, gensim."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from typing import Any

from tests.trust.corpus import Sample
from tests.trust.corpus.archive_writers import compressed, zipped
from tests.trust.corpus.opcodes import COMMAND, PAYLOAD, call, framed, list_of, name, stream, text, tuple_of

SYSTEM = call("os", "system", COMMAND)
_CODECS = ("gz", "bz2", "xz", "lzma", "z", "lz4")


def npy(payload: bytes, *, descr: str = "'|O'", version: int = 1, shape: str = "(1,)") -> bytes:
    """An array file; objects are a pickle behind the header."""
    header = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}".encode()
    header += b" " * (-(len(header) + 11) % 64) + b"\n"
    length = struct.pack("<H" if version == 1 else "<I", len(header))
    return b"\x93NUMPY" + bytes([version, 0]) + length + header + payload


def wrapped_array(payload: bytes) -> bytes:
    """A joblib stream: an array of objects is a pickle of its own between the opcodes."""
    state = (
        b"}(" + text("subclass") + name("numpy", "ndarray") + text("shape") + tuple_of(1) + text("order") + text("C")
    )
    state += text("dtype") + call("numpy", "dtype", "O8", b"\x89", b"\x88") + text("allow_mmap") + b"\x89u"
    return b"\x80\x04" + name("joblib.numpy_pickle", "NumpyArrayWrapper") + b")\x81" + state + b"b" + payload


def samples() -> Iterator[Sample]:
    """Arrays of objects, compressed estimators, types of skops."""
    arrays = {
        "npy, version 1": ("a.npy", npy(PAYLOAD)),
        "npy, version 2": ("a.npy", npy(PAYLOAD, version=2)),
        "npy, version 3": ("a.npy", npy(PAYLOAD, version=3)),
        "npy, objects in a field": ("a.npy", npy(PAYLOAD, descr="[('x', '<f4'), ('y', '|O')]")),
        "npy, no dimension": ("a.npy", npy(PAYLOAD, shape="()")),
        "npy under another name": ("embeddings.bin", npy(PAYLOAD)),
        "npy that is a pickle": ("a.npy", PAYLOAD),
        "npz": ("a.npz", zipped({"arr_0.npy": npy(PAYLOAD)})),
        "npz, one of many": (
            "a.npz",
            zipped({"w.npy": npy(bytes(8), descr="'<f4'", shape="(2,)"), "meta.npy": npy(PAYLOAD)}),
        ),
        "npz, a pickle for a member": ("a.npz", zipped({"w.npy": PAYLOAD})),
        "npz, member without a suffix": ("a.npz", zipped({"w": npy(PAYLOAD)})),
        "npz in gz": ("a.npz.gz", compressed(zipped({"w.npy": npy(PAYLOAD)}), "gz")),
    }
    for what, (path, data) in arrays.items():
        yield Sample(f"arrays/{what}", {path: data})
    estimator = framed(
        name("sklearn.linear_model._logistic", "LogisticRegression"), b")\x81}", text("C"), SYSTEM, b"sb"
    )
    for codec in _CODECS:
        yield Sample(f"arrays/joblib, {codec}", {"model.joblib": compressed(estimator, codec)})
    yield Sample("arrays/joblib, plain", {"model.joblib": estimator})
    yield Sample("arrays/joblib, array of objects", {"model.joblib": wrapped_array(PAYLOAD) + b"."})
    yield Sample(
        "arrays/joblib, behind an array of objects", {"model.joblib": wrapped_array(stream(b"]")) + SYSTEM + b"."}
    )
    yield Sample("arrays/joblib of before 0.10", {"model.joblib": b"ZF0x" + b"40".ljust(17) + compressed(PAYLOAD, "z")})
    yield Sample("arrays/sklearn function transformer", {"model.pkl": _transformer("os", "system")})
    yield Sample("arrays/sklearn vectoriser with a tokenizer", {"model.pkl": _vectoriser()})
    yield Sample("arrays/sklearn pipeline step", {"pipe.pkl": _pipeline()})
    yield Sample("arrays/gensim", {"word2vec.model": _gensim()}, source="gensim.utils.SaveLoad")
    yield Sample(
        "arrays/pandas", {"frame.pkl": framed(call("pandas._libs.internals", "_unpickle_block", SYSTEM, b"N", 2))}
    )
    yield Sample("arrays/pandas, gz", {"frame.pkl.gz": compressed(framed(SYSTEM), "gz")})
    for what, (node, source) in _skops_nodes().items():
        schema = {**node, "protocol": 2, "_skops_version": "0.13.0"}
        yield Sample(
            f"arrays/skops, {what}",
            {"model.skops": zipped({"schema.json": json.dumps(schema).encode()})},
            source=source,
        )


def _transformer(module: str, attribute: str) -> bytes:
    return framed(
        name("sklearn.preprocessing._function_transformer", "FunctionTransformer"),
        b")\x81}",
        text("func"),
        name(module, attribute),
        b"sb",
    )


def _vectoriser() -> bytes:
    tokenizer = call("functools", "partial", name("builtins", "eval"))
    return framed(
        name("sklearn.feature_extraction.text", "CountVectorizer"), b")\x81}", text("tokenizer"), tokenizer, b"sb"
    )


def _pipeline() -> bytes:
    steps = list_of(
        tuple_of("scale", name("sklearn.preprocessing._data", "StandardScaler") + b")\x81"), tuple_of("x", SYSTEM)
    )
    return framed(name("sklearn.pipeline", "Pipeline"), b")\x81}", text("steps"), steps, b"sb")


def _gensim() -> bytes:
    return framed(name("gensim.models.word2vec", "Word2Vec"), b")\x81}", text("callbacks"), SYSTEM, b"sb")


def _skops_nodes() -> dict[str, tuple[dict[str, Any], str]]:
    def node(module: str, class_name: str, loader: str, **more: Any) -> dict[str, Any]:
        return {"__class__": class_name, "__module__": module, "__loader__": loader, **more}

    function = {"content": {"module_path": "os", "function": "system"}, "type": "function"}
    reached = node("operator", "methodcaller", "OperatorFuncNode", attrs=node("builtins", "tuple", "TupleNode"))
    obj = node("sklearn.linear_model", "LogisticRegression", "ObjectNode", content=node("builtins", "dict", "DictNode"))
    return {
        "type of another library": (node("subprocess", "Popen", "ObjectNode"), ""),
        "function": ({**node("builtins", "function", "FunctionNode"), **function}, ""),
        "function of builtins": (node("builtins", "eval", "FunctionNode"), ""),
        "operator": (reached, "CVE-2025-54412"),
        "method of another object": (
            node("builtins", "eval", "MethodNode", content={"func": "__call__", "obj": obj}),
            "CVE-2025-54413",
        ),
        "method that reaches the interpreter": (
            node("sklearn.linear_model", "LogisticRegression", "MethodNode", content={"func": "__class__", "obj": obj}),
            "CVE-2025-54413",
        ),
        "partial": (
            node("functools", "partial", "PartialNode", content={"func": node("os", "system", "FunctionNode")}),
            "",
        ),
        "deep in a pipeline": (
            node(
                "sklearn.pipeline",
                "Pipeline",
                "ObjectNode",
                content={"steps": [obj, node("posix", "system", "TypeNode")]},
            ),
            "",
        ),
    }
