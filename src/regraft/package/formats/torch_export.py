"""Exported programs (`.pt2`): a graph in JSON, weights as raw members or nested `torch.save` files.

Loading runs code: torch 2.13 reads weights, constants and sample inputs that are marked as pickled with
`weights_only=False` or `pickle.loads`, and an AOTInductor archive holds a shared library.
Source: torch 2.13, torch/export/pt2_archive/_package.py, torch/_export/serde/schema.py.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

from regraft.errors import Damaged, LimitExceeded, MissingExtra, Unsupported
from regraft.package.archive import Archive
from regraft.package.formats.array_types import TORCH_SCALAR_TYPES, item_bytes
from regraft.package.formats.interface import Description, Loading, Port, Probe, Problem, Role, Tensor
from regraft.package.formats.torch_zip import root_of, small_text
from regraft.package.limits import MAX_HEADER_BYTES, MAX_NESTING, MAX_TENSORS

_OLD_PROGRAM = "serialized_exported_program.json"
_MAX_MODELS = 64
_COMPILED = "data/aotinductor/"
_LIBRARIES = (".so", ".cubin", ".dylib")
_WEIGHTS = ("data/weights/", "_weights_config.json")
_OPERATOR = re.compile(
    r"torch\.ops\.(?P<namespace>\w+)\.(?P<name>(?!__)\w+(\.(?!__)\w+)?|__i?(and|or|xor|[lr]shift)__(\.\w+)?)"
)
_SYMBOL = re.compile(r"Symbol\('(\w+)'[^()]*\)")
_CONSTANTS = ("data/constants/", "_constants_config.json")


class TorchExport:
    """What `torch.export.save` writes, since 2.8 as a pt2 archive, before as a zip with one JSON program."""

    name = "torch-export"
    title = "PyTorch exported program"
    role = Role.WEIGHTS
    loading = Loading.CODE
    suffixes = (".pt2",)

    def matches(self, probe: Probe) -> bool:
        """See `Format.matches`."""
        archive, root = _archive(probe)
        if archive is None:
            return False
        return _OLD_PROGRAM in archive.by_name or small_text(archive, root + "archive_format") == "pt2"

    def describe(self, probe: Probe) -> Description:
        """See `Format.describe`."""
        archive, root = _archive(probe)
        if archive is None:
            raise Damaged("not an exported program", where=probe.name)
        problems = list(archive.problems)
        programs = list(_programs(archive, root))
        tensors = [*_tensors(archive, root, _WEIGHTS, problems), *_tensors(archive, root, _CONSTANTS, problems)]
        operators: Counter[str] = Counter()
        inputs: list[Port] = []
        outputs: list[Port] = []
        opsets: dict[str, int] = {}
        metadata = {"programs": ", ".join(name for name, _ in programs)[:2000]}
        for _, program in programs:
            if not isinstance(program, dict):
                problems.append(Problem("a program that is not a JSON object", None, None, "damaged"))
                continue
            graph = _dig(program, "graph_module", "graph")
            operators.update(_operators(graph))
            inputs += _ports(program, graph, "input_specs", "user_input")
            outputs += _ports(program, graph, "output_specs", "user_output")
            versions = program.get("opset_version")
            opsets |= {k: v for k, v in versions.items() if type(v) is int} if isinstance(versions, dict) else {}
            tensors += [] if tensors else list(_declared(program, graph))
            version = program.get("torch_version")
            if isinstance(version, str):
                metadata["torch_version"] = version[:100]
        libraries = [member.name for member in archive.members if member.name.endswith(_LIBRARIES)]
        if libraries:
            metadata["native_code"] = ", ".join(libraries)[:2000]
        return Description(
            version=small_text(archive, root + "archive_version") or small_text(archive, "version"),
            tensors=tuple(tensors),
            operators=dict(operators.most_common()),
            opsets=opsets,
            inputs=tuple(inputs),
            outputs=tuple(outputs),
            metadata=metadata,
            problems=tuple(problems),
        )


class AotInductor(TorchExport):
    """A pt2 archive with a network that AOTInductor compiled: loading it opens a shared library.

    What its maker wrote about inputs and outputs lies in the metadata of the wrapper (torch 2.13,
    torch/_inductor/package), which Regraft's own packages fill.
    """

    name = "aotinductor"
    title = "AOTInductor package"

    def matches(self, probe: Probe) -> bool:
        """A pt2 archive with a library among the files of AOTInductor."""
        if not super().matches(probe):
            return False
        archive, _ = _archive(probe)
        names = [member.name for member in archive.members] if archive is not None else []
        return any(f"/{_COMPILED}" in f"/{name}" and name.endswith(_LIBRARIES) for name in names)


def _archive(probe: Probe) -> tuple[Archive | None, str]:
    found = root_of(probe)
    if found is not None:
        return found
    is_zip = probe.head.startswith(b"PK\x03\x04")
    return (probe.zip, "") if is_zip else (None, "")


def _read_json(archive: Archive, name: str) -> Any:
    try:
        return json.loads(archive.read(name, limit=MAX_HEADER_BYTES))
    except (ValueError, RecursionError) as error:
        raise Damaged(f"{name} is not JSON: {error}", where=archive.reader.where) from error
    except (Unsupported, MissingExtra) as error:
        raise Damaged(error.what, where=archive.reader.where) from error


def _programs(archive: Archive, root: str) -> Iterator[tuple[str, Any]]:
    if _OLD_PROGRAM in archive.by_name:
        yield _OLD_PROGRAM, _read_json(archive, _OLD_PROGRAM)
        return
    names = [m.name for m in archive.members if m.name.startswith(root + "models/") and m.name.endswith(".json")]
    for name in names[:_MAX_MODELS]:
        yield name[len(root) :], _read_json(archive, name)


def _tensors(archive: Archive, root: str, kind: tuple[str, str], problems: list[Problem]) -> Iterator[Tensor]:
    """Tensors that a weights or constants configuration lists."""
    folder, suffix = kind
    for member in archive.members:
        if not (member.name.startswith(root + folder) and member.name.endswith(suffix)):
            continue
        config = _read_json(archive, member.name)
        entries = config.get("config") if isinstance(config, dict) else None
        for name, entry in list(entries.items())[:MAX_TENSORS] if isinstance(entries, dict) else ():
            meta = entry.get("tensor_meta") if isinstance(entry, dict) else None
            tensor = _tensor(name, meta)
            if tensor is None:
                problems.append(Problem(f"{name!r} has no type or shape", None, member.name, "opaque-weight"))
                continue
            path = f"{root}{folder}{entry.get('path_name')}"
            if path not in archive.by_name:
                problems.append(Problem(f"no member for the weight {name!r}", None, path, "missing-storage"))
            yield tensor


def _tensor(name: str, meta: Any) -> Tensor | None:
    shape = _shape(meta)
    if shape is None or not all(isinstance(extent, int) for extent in shape):
        return None
    sizes = tuple(extent for extent in shape if isinstance(extent, int))
    dtype = _dtype(meta)
    tensor, width = Tensor(name, dtype, sizes), item_bytes(dtype)
    return Tensor(name, dtype, sizes, tensor.elements * width) if width else tensor


def _declared(program: Any, graph: Any) -> Iterator[Tensor]:
    """Parameters and buffers by the graph's signature, for archives whose weights are one nested file."""
    values = _dig(graph, "tensor_values")
    for spec in _specs(program, "input_specs"):
        for kind, target in (("parameter", "parameter_name"), ("buffer", "buffer_name")):
            inner = spec.get(kind)
            if isinstance(inner, dict) and isinstance(values, dict):
                argument = _dig(inner, "arg", "name")
                tensor = _tensor(str(inner.get(target)), values.get(argument) if isinstance(argument, str) else None)
                if tensor is not None:
                    yield tensor


def _operators(graph: Any) -> Iterator[str]:
    """What the nodes call and what they are handed to call, in the graphs of branches and loops, too.

    Raises:
        LimitExceeded: graphs in graphs, deeper than is looked at.
    """
    waiting: list[tuple[Any, int]] = [(graph, 0)]
    while waiting:
        part, depth = waiting.pop()
        if depth > MAX_NESTING:
            raise LimitExceeded(f"branches more than {MAX_NESTING} deep in each other")
        nodes = _dig(part, "nodes")
        for node in nodes if isinstance(nodes, list) else ():
            target = _dig(node, "target")
            if isinstance(target, str):
                yield _resolved(target)
        listed = [_dig(node, "inputs") for node in nodes] if isinstance(nodes, list) else []
        for key, value in _handed_over([*listed, _dig(part, "inputs"), _dig(part, "outputs")]):
            if key == "as_operator" and isinstance(value, str):
                yield _resolved(value)
            elif key == "as_graph":
                waiting.append((_dig(value, "graph"), depth + 1))


def _handed_over(arguments: Any) -> Iterator[tuple[str, Any]]:
    """Operators and graphs among arguments, however deep they lie in lists and dictionaries of arguments."""
    waiting = [arguments]
    while waiting:
        value = waiting.pop()
        if isinstance(value, list):
            waiting.extend(item for item in value if isinstance(item, list | dict))
        elif isinstance(value, dict):
            for key, inner in value.items():
                if key in ("as_operator", "as_graph"):
                    yield key, inner
                elif isinstance(inner, list | dict):
                    waiting.append(inner)


def _resolved(target: str) -> str:
    """A registered operator as `namespace::name`; what torch finds in a module of Python as `module::path`.

    torch 2.13 goes by how a target begins, and drops what stands before its first dot: `torchvision.os` is `torch.os`
    (`deserialize_operator`). Only `torch.ops.NAMESPACE.NAME` and `torch.ops.NAMESPACE.NAME.OVERLOAD` are operators.
    """
    if (found := _OPERATOR.fullmatch(target)) is not None:
        return f"{found['namespace']}::{found['name']}"
    head, _, rest = target.partition(".")
    for module in ("_operator", "torch", "math"):
        if head.startswith(module):
            return f"{module}::{rest}"
    if head.startswith("#"):  # of an extension, which registered itself with torch
        return target.replace(":", "::", 1)
    return f"{head}::{rest}" if rest else target


def _ports(program: Any, graph: Any, specs: str, kind: str) -> Iterator[Port]:
    values = _dig(graph, "tensor_values")
    for spec in _specs(program, specs):
        name = _dig(spec, kind, "arg", "as_tensor", "name")
        if isinstance(name, str):
            meta = values.get(name) if isinstance(values, dict) else None
            yield Port(name, _dtype(meta), _shape(meta))


def _specs(program: Any, name: str) -> list[dict[str, Any]]:
    specs = _dig(program, "graph_module", "signature", name)
    return [spec for spec in specs if isinstance(spec, dict)] if isinstance(specs, list) else []


def _shape(meta: Any) -> tuple[int | str | None, ...] | None:
    sizes = _dig(meta, "sizes")
    if not isinstance(sizes, list) or len(sizes) > 64:
        return None
    return tuple(_extent(size) for size in sizes)


def _extent(size: Any) -> int | str | None:
    fixed = _dig(size, "as_int")
    if type(fixed) is int and 0 <= fixed < 1 << 62:
        return fixed
    symbol = _dig(size, "as_expr", "expr_str")
    if not isinstance(symbol, str):
        return None
    return _SYMBOL.sub(r"\1", symbol)[:100]


def _dtype(meta: Any) -> str:
    number = _dig(meta, "dtype")
    return TORCH_SCALAR_TYPES.get(number, "unknown") if type(number) is int else "unknown"


def _dig(value: Any, *path: str) -> Any:
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None
    return value
