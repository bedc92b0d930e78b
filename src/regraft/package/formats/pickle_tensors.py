"""Tensors and arrays among the values of a pickle stream: name, type, shape; their bytes are not read.

Source: torch 2.13, torch/_utils.py and torch/_tensor.py; numpy 2.4, numpy/_core/src/multiarray (`__reduce__`).
"""

from __future__ import annotations

import math

import msgspec

from regraft.package.formats.array_types import item_bytes, numpy_dtype, storage_dtype, torch_dtype
from regraft.package.formats.interface import Problem, Tensor
from regraft.package.formats.pickle_values import (
    Call,
    Dict,
    Global,
    PersistentId,
    Value,
    argument_pairs,
    named_values,
)
from regraft.package.limits import MAX_NESTING, MAX_TENSORS

_MAX_DIMENSIONS = 64
_MAX_EXTENT = 1 << 62
_NOT_THE_MODEL = ("optim", "lr_sched", "scheduler", "callbacks", "loops", "hyper_parameters", "hparams")
"""First names of what a checkpoint keeps beside the model."""
_THE_MODEL = ("state_dict.", "model_state_dict.", "model_state.")
"""Where a checkpoint has one of these, nothing else in it is the model."""


class Storage(msgspec.Struct, frozen=True):
    """A torch storage named by a persistent id: `key` names the bytes, `elements` is None where it is not said.

    `start` is the element of those bytes at which it begins; only files from before 2017 have views of storages.
    """

    key: str
    dtype: str
    elements: int | None
    location: str
    start: int = 0


class Array(msgspec.Struct, frozen=True):
    """One array as a stream describes it. `identity` is equal for two views of exactly the same elements.

    Attributes:
        storage, start, stride: of a torch tensor: where its elements lie, in elements; `stride` None where it is not
            said in numbers.
        least_elements: elements that the storage must have for this view to lie inside.
    """

    dtype: str
    shape: tuple[int, ...]
    size_bytes: int | None
    identity: tuple[object, ...]
    storage: Storage | None = None
    start: int = 0
    stride: tuple[int, ...] | None = None
    least_elements: int = 0


class Arrays(msgspec.Struct, frozen=True):
    """All arrays of a stream.

    Attributes:
        tensors: every one under its dotted name; an array under two names is listed twice.
        parameters: elements, each array counted once: of a checkpoint's state dict where it has one, else of
            everything but optimizer state and hyper-parameters.
        storages: storage key → storage, of torch tensors.
        problems: views that their storage cannot hold.
    """

    tensors: tuple[Tensor, ...]
    parameters: int
    storages: dict[str, Storage]
    problems: tuple[Problem, ...] = ()


def arrays_of(root: Value, *, prefix: str = "", member: str | None = None) -> Arrays:
    """Every tensor and array that unpickling a stream would return.

    Args:
        root: the value of a `PickleStream`.
        prefix: put before each name.
        member: archive member that problems name.
    """
    tensors: list[Tensor] = []
    counted: set[tuple[object, ...]] = set()
    storages: dict[str, Storage] = {}
    problems: list[Problem] = []
    parameters = inside = 0
    for name, value in named_values(root):
        array = array_of(value)
        if array is None:
            continue
        if len(tensors) >= MAX_TENSORS:
            problems.append(Problem(f"more than {MAX_TENSORS} tensors; the rest is not listed", None, member, "limit"))
            break
        tensor = Tensor(prefix + name, array.dtype, array.shape, array.size_bytes)
        tensors.append(tensor)
        is_model = name.startswith(_THE_MODEL)
        if array.identity not in counted and (is_model or not name.lower().startswith(_NOT_THE_MODEL)):
            parameters += tensor.elements
            inside += tensor.elements if is_model else 0
        counted.add(array.identity)
        storage = array.storage
        if storage is not None:
            storages.setdefault(storage.key, storage)
            if storage.elements is not None and array.least_elements > storage.elements:
                what = f"{tensor.name} needs {array.least_elements} elements of a storage with {storage.elements}"
                problems.append(Problem(what, None, member, "out-of-bounds"))
    return Arrays(tuple(tensors), inside or parameters, storages, tuple(problems[:100]))


def array_of(value: Value) -> Array | None:
    """The array that a value stands for; None when it is none."""
    for _ in range(MAX_NESTING):
        if not isinstance(value, Call):
            return None
        module, _, name = value.path.rpartition(".")
        if not module.startswith(("torch", "numpy", "joblib", "sklearn")):
            return None
        args = value.arguments
        if name in ("_rebuild_parameter", "_rebuild_parameter_with_state", "Parameter") and args:
            value = args[0]
        elif name in ("_rebuild_from_type", "_rebuild_from_type_v2") and len(args) >= 3:
            value = Call(args[0], args[2], "reduce", value.offset)
        elif name.startswith("_rebuild_") and module.startswith("torch"):
            return _torch_tensor(name, args, value)
        else:
            return _numpy_array(module, name, value)
    return None


def storage_of(value: Value) -> Storage | None:
    """The storage that a persistent id names; None when it is none."""
    if not isinstance(value, PersistentId) or not isinstance(value.id, tuple) or len(value.id) < 5:
        return None
    kind, cls, key, location, elements = value.id[:5]
    if _text(kind) != "storage":
        return None
    dtype = storage_dtype((cls.name or "").rpartition(".")[2]) if isinstance(cls, Global) else None
    view = value.id[5] if len(value.id) > 5 else None
    start = 0
    if isinstance(view, tuple) and len(view) == 3:
        start, elements = view[1], view[2]
    if type(start) is not int or not 0 <= start < _MAX_EXTENT:
        return None
    size = elements if type(elements) is int and 0 <= elements < _MAX_EXTENT else None
    return Storage(_text(key), dtype or "unknown", size, _text(location), start)


def dtype_of(value: Value) -> tuple[str, int] | None:
    """(name, bytes of one element) of a pickled numpy or torch type; None when it is none that is known."""
    if isinstance(value, Global):
        name = (value.name or "").rpartition(".")[2]
        if value.module == "torch":
            full = torch_dtype(name)
            return full, item_bytes(full) or 0
        return numpy_dtype(name)
    if not isinstance(value, Call) or not value.path.endswith("dtype") or not value.arguments:
        return None
    first, state = value.arguments[0], value.state
    if isinstance(state, tuple) and len(state) >= 6 and state[4] is not None:  # named fields
        has_object = len(state) > 7 and isinstance(state[7], int) and bool(state[7] & 1)
        width = state[5]
        return ("object" if has_object else "struct"), width if type(width) is int and width >= 0 else 0
    return numpy_dtype(first) if isinstance(first, str) else dtype_of(first) if first is not value else None


def wrapped_array(value: Call) -> Array | None:
    """The array that joblib puts behind a `NumpyArrayWrapper`; None when its state does not say."""
    shape, dtype = _shape(value.attribute("shape")), dtype_of(value.attribute("dtype"))
    if shape is None or dtype is None:
        return None
    return _array(dtype[0], dtype[1], shape, ("joblib", value.offset))


def is_array_wrapper(value: Value) -> bool:
    """Is this joblib's placeholder, behind which the bytes of an array follow?"""
    return isinstance(value, Call) and value.path.endswith("numpy_pickle.NumpyArrayWrapper")


def _torch_tensor(name: str, args: tuple[Value, ...], value: Call) -> Array | None:
    if name == "_rebuild_sparse_tensor" and len(args) == 2 and isinstance(args[1], tuple) and len(args[1]) >= 3:
        shape, inner = _shape(args[1][-2] if isinstance(args[1][-1], bool) else args[1][-1]), array_of(args[1][-3])
        inner = inner or array_of(args[1][1])
        return None if shape is None else _array(inner.dtype if inner else "unknown", None, shape, (value.offset,))
    if name in ("_rebuild_device_tensor_from_numpy", "_rebuild_device_tensor_from_cpu_tensor") and args:
        return array_of(args[0])
    if name in ("_rebuild_meta_tensor_no_storage", "_rebuild_wrapper_subclass") and len(args) >= 3:
        place = 0 if name == "_rebuild_meta_tensor_no_storage" else 1
        dtype, shape = dtype_of(args[place]), _shape(args[place + 1])
        return None if shape is None else _array(dtype[0] if dtype else "unknown", None, shape, (value.offset,))
    if len(args) < 4:
        return None
    storage, shape = storage_of(args[0]), _shape(args[2])
    if shape is None:
        return None
    dtype_name = storage.dtype if storage else "unknown"
    if name == "_rebuild_tensor_v3" and len(args) > 6 and (stated := dtype_of(args[6])):
        dtype_name = stated[0]
    offset, stride = args[1], _shape(args[3])
    start = offset if type(offset) is int else 0
    identity = (storage.key, storage.start + start, shape, stride) if storage else (value.offset,)
    least = 0
    if stride is not None and len(stride) == len(shape) and 0 not in shape and name != "_rebuild_tensor_v3":
        least = start + 1 + sum((extent - 1) * step for extent, step in zip(shape, stride, strict=True))
    size = _size_bytes(shape, item_bytes(dtype_name))
    return Array(dtype_name, shape, size, identity, storage, start, stride, least)


def _numpy_array(module: str, name: str, value: Call) -> Array | None:
    args = value.arguments
    if name == "_reconstruct" and isinstance(value.state, tuple) and len(value.state) >= 5:
        shape, dtype = _shape(value.state[1]), dtype_of(value.state[2])
    elif name == "_frombuffer" and len(args) >= 3:
        shape, dtype = _shape(args[2]), dtype_of(args[1])
    elif is_array_wrapper(value):
        return wrapped_array(value)
    else:
        return None
    if shape is None:
        return None
    return _array(dtype[0] if dtype else "unknown", dtype[1] if dtype else None, shape, (value.offset,))


def _array(dtype: str, width: int | None, shape: tuple[int, ...], identity: tuple[object, ...]) -> Array:
    return Array(dtype, shape, _size_bytes(shape, width), identity)


def _size_bytes(shape: tuple[int, ...], width: int | None) -> int | None:
    return math.prod(shape) * width if width else None


def _shape(value: Value) -> tuple[int, ...] | None:
    if isinstance(value, Call) and value.path.endswith("torch.Size") and value.arguments:
        value = value.arguments[0]
    if isinstance(value, list):
        value = tuple(value)
    if type(value) is int:
        value = (value,)
    if not isinstance(value, tuple) or len(value) > _MAX_DIMENSIONS:
        return None
    return value if all(type(extent) is int and 0 <= extent < _MAX_EXTENT for extent in value) else None


def _text(value: Value) -> str:
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return value if isinstance(value, str) else str(value) if type(value) is int else ""


def top_level(root: Value, *, max_facts: int = 100) -> dict[str, str]:
    """Scalars and key names of a checkpoint's outermost dict, as text: epoch, versions, hyper-parameters.

    Lightning's `hyper_parameters` and a `config`/`args` dict contribute their scalars under `group.key`.
    """
    facts: dict[str, str] = {}
    pairs = _pairs(root)
    if pairs is None:
        return facts
    names = [key for key, _ in pairs if isinstance(key, str)]
    if any(_pairs(value) is not None for _, value in pairs):
        facts["keys"] = ", ".join(names[:50])[:2000]
    for key, value in pairs:
        if not isinstance(key, str):
            continue
        _add(facts, key, value, max_facts)
        inner = _pairs(value) if key in ("hyper_parameters", "hparams", "config", "args", "model_args") else None
        for name, item in inner or ():
            if isinstance(name, str):
                _add(facts, f"{key}.{name}", item, max_facts)
    return facts


def _pairs(value: Value) -> list[tuple[Value, Value]] | None:
    pairs = [*argument_pairs(value), *value.pairs] if isinstance(value, Call) else None
    return (value.pairs if isinstance(value, Dict) else pairs) or None


def _add(facts: dict[str, str], key: str, value: Value, max_facts: int) -> None:
    if isinstance(value, (str, bool, int, float)) and len(facts) < max_facts and len(key) <= 200:
        text = value if isinstance(value, str) else f"{value:#x}" if _is_huge(value) else str(value)
        if len(text) <= 500:
            facts.setdefault(key, text)


def _is_huge(value: Value) -> bool:
    return isinstance(value, int) and value.bit_length() > 64
