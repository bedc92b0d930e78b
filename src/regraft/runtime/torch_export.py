"""torch: an `ExportedProgram` as a `Model`. Every operator is a tap; the graph can be cut and cast."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from regraft.errors import Damaged, PermitRefused, Unsupported
from regraft.package.formats import Port
from regraft.package.limits import MAX_HEADER_BYTES
from regraft.runtime.feeding import checked_feeds
from regraft.runtime.interface import Signature, Tap
from regraft.runtime.torch_recurrent import symbolic_steps
from regraft.runtime.torch_tensors import (
    array_from_tensor,
    cast_port,
    dtype_name,
    import_torch,
    input_from_array,
    named_tensors,
    precision_of,
    running_with,
    tensor_from_array,
    torch_dtype,
)
from regraft.runtime.torch_transformers import without_caches

if TYPE_CHECKING:
    import torch
    from torch.export import ExportedProgram

    from regraft.package.package import Package
    from regraft.runtime.interface import Array, Feeds, LoadOptions, Reduce
    from regraft.runtime.torch_module import TorchModel
    from regraft.runtime.verified import VerifiedFiles

_EXPRESSION = re.compile(r"[\w\s+\-*/%(),<>=&|~]*")
_DECIMAL = re.compile(r"\b\d+\.\d*")
_FLOAT = re.compile(r"Float\('-?\d+(?:\.\d*)?(?:e[+-]?\d+)?', precision=\d+\)")
_SYMBOL = re.compile(r"Symbol\('\w+'(?:, \w+=\w+)*\)")
_CALLED = re.compile(r"(\w+)\s*\(")
_FUNCTIONS = frozenset(
    "Add Mul Rational Float Max Min FloorDiv CleanDiv CeilDiv Mod PythonMod ModularIndexing Where "
    "Eq Ne Lt Le Gt Ge And Or Not Abs Pow "
    "TruncToInt CeilToInt FloorToInt RoundToInt ToFloat IntTrueDiv FloatTrueDiv Symbol Integer Identity".split()
)


class TorchExportRuntime:
    """Loads `.pt2` archives; reading them can execute code, so a permit is needed."""

    name = "torch"

    def can_load(self, package: Package, path: str, options: LoadOptions) -> bool:
        """An archive of torch.export."""
        _, recognised = package.probe(path)
        return options.factory is None and recognised is not None and recognised.name == "torch-export"

    def load(self, files: VerifiedFiles, path: str, options: LoadOptions) -> TorchExportModel:
        """Load the program, after its expressions over sizes were seen to be arithmetic."""
        torch = import_torch(path)
        content = files.read(path)
        _require_arithmetic(content, path)
        try:
            program = torch.export.load(io.BytesIO(content))
            model = TorchExportModel.from_program(program, threads=options.threads, where=path)
        except Exception as error:
            raise Damaged(f"torch cannot load the program: {str(error).strip()[:300]}", where=path) from error
        return model if options.precision in (None, model.effective_precision) else model.cast(str(options.precision))


def exported(model: TorchModel | TorchExportModel, feeds: Feeds, *, fixed: Sequence[str] = ()) -> ExportedProgram:
    """Export a model with the symbolic dimensions of its signature left dynamic.

    Args:
        model: eager torch model, or a program, which is exported again.
        feeds: example inputs; a dynamic dimension should be at least 2 here, torch specialises on 0 and 1.
        fixed: names of dimensions to fix to the sizes of the example, for networks that depend on them.
    Raises:
        Unsupported: torch.export cannot follow the network; the message is its own.
    """
    import torch

    tensors = {port.name: tensor_from_array(feeds[port.name], port.dtype) for port in model.signature.inputs}
    shapes: dict[str, Any] = {}
    for port in model.signature.inputs:
        extents = port.shape if port.shape is not None else (None,) * tensors[port.name].ndim
        dynamic = torch.export.Dim.AUTO
        shapes[port.name] = {i: dynamic for i, x in enumerate(extents) if not isinstance(x, int) and x not in fixed}
    try:
        module = model.graph if isinstance(model, TorchExportModel) else model.module
        with torch.inference_mode(False), torch.no_grad(), symbolic_steps(), without_caches(module):
            program: ExportedProgram = torch.export.export(module, (), tensors, dynamic_shapes=shapes)
    except Exception as error:
        said, *_ = str(error).strip().split("\n\n")
        raise Unsupported(
            f"torch.export cannot follow the network: {said[:500]}", where=model.where, hint=_advice(said)
        ) from error
    return program


def _advice(said: str) -> str:
    """What to do about what torch says."""
    depends = "data-dependent" in said or "Could not guard" in said
    return "control flow that depends on numbers: write it with torch.where or torch.cond" if depends else ""


class TorchExportModel:
    """The graph of an exported program, interpreted operator by operator when it is traced.

    Args:
        graph: the program as a `GraphModule` that owns its weights.
        inputs: ports of its placeholders, in order.
        outputs: names of what it returns, in order.
        threads: intra-op threads during a pass; None for torch's own number.
        where: how errors name it.
    """

    runtime = "torch"

    def __init__(
        self,
        graph: torch.fx.GraphModule,
        *,
        inputs: Sequence[Port],
        outputs: Sequence[str] = (),
        threads: int | None = None,
        where: str = "",
    ) -> None:
        self.graph = graph
        self.where = where
        self.allows_nan = False
        self._inputs = tuple(inputs)
        self._outputs = tuple(outputs)
        self._threads = threads

    @classmethod
    def from_program(cls, program: ExportedProgram, *, threads: int | None = None, where: str = "") -> TorchExportModel:
        """Wrap an exported program; its inputs keep their names and symbolic sizes, and are passed by them."""
        graph = program.module(check_guards=False)
        _pass_by_name(graph)
        inputs = [_port(node) for node in graph.graph.nodes if node.op == "placeholder"]
        return cls(graph, inputs=inputs, threads=threads, where=where)

    @property
    def signature(self) -> Signature:
        """Inputs; outputs are known by name once a segment or a program declares them."""
        precision = self.effective_precision
        return Signature(self._inputs, tuple(Port(name, precision) for name in self._outputs))

    @property
    def effective_precision(self) -> str:
        """The dtype of the weights, `mixed` when they differ."""
        tensors = [*self.graph.parameters(), *self.graph.buffers()]
        if tensors:
            return precision_of(iter(tensors))
        return next((port.dtype for port in self._inputs if "float" in port.dtype), "float32")

    def __call__(self, feeds: Feeds) -> dict[str, Array]:
        """One pass; outputs under the names of the program's structure, or `output_0` and on."""
        tensors = self._tensors(feeds)
        with running_with(self._threads):
            try:
                result = self.graph(**tensors)
            except Exception as error:
                raise self._stopped(error, feeds) from error
        found = list(named_tensors(result))
        names = self._outputs or tuple(name for name, _ in found)
        return {name: array_from_tensor(tensor) for name, (_, tensor) in zip(names, found, strict=True)}

    def trace(self, feeds: Feeds, *, taps: Sequence[str] | None = None, reduce: Reduce | None = None) -> Iterator[Tap]:
        """Every tensor that an operator makes, as it is made; what is not needed any more is dropped.

        `scope` is the path of the module that the operator was written in, `operator` as `aten.linear.default`.
        """
        import torch

        wanted = None if taps is None else set(taps)
        interpreter = torch.fx.Interpreter(self.graph, garbage_collect_values=True)
        tensors = self._tensors(feeds)
        interpreter.args_iter = iter(tensors[port.name] for port in self._inputs)
        order = 0
        for node in self.graph.graph.nodes:
            if node.op == "output":
                return
            with running_with(self._threads):
                try:
                    value = interpreter.env[node] = interpreter.run_node(node)
                except Exception as error:
                    raise self._stopped(error, feeds) from error
            if node.op not in ("placeholder", "get_attr") and isinstance(value, torch.Tensor):
                if wanted is None or node.name in wanted:
                    yield _tap(node, order, value, reduce)
                order += 1
            for used in interpreter.user_to_last_uses.get(node, ()):
                interpreter.env.pop(used, None)

    def segment(self, inputs: Sequence[str], outputs: Sequence[str]) -> TorchExportModel:
        """The subgraph that computes `outputs` from `inputs`, both named by taps or inputs of the model.

        Raises:
            Unsupported: a name is no tap, or the outputs also need inputs of the model that are not named.
        """
        import torch

        by_name = {node.name: node for node in self.graph.graph.nodes}
        for name in (*inputs, *outputs):
            if name not in by_name:
                raise Unsupported(f"the graph cannot be cut at {name!r}: there is no such tap", where=self.where)
        part = torch.fx.Graph()
        copies: dict[torch.fx.Node, torch.fx.Node] = {}
        for name in inputs:
            copies[by_name[name]] = part.placeholder(name)
            copies[by_name[name]].meta = dict(by_name[name].meta)
        sizes = _sizes_of(part, copies.values())
        for node in self._needed([by_name[name] for name in outputs], copies, sizes):
            size = sizes.get(_symbol(node))
            copies[node] = size if size is not None else part.node_copy(node, lambda used: copies[used])
        part.output(tuple(copies[by_name[name]] for name in outputs))
        return TorchExportModel(
            torch.fx.GraphModule(self.graph, part),
            inputs=[_port(copies[by_name[name]], name) for name in inputs],
            outputs=outputs,
            threads=self._threads,
            where=f"{self.where} segment",
        )

    def cast(self, dtype: str) -> TorchExportModel:
        """A copy with weights in `dtype`; operators that name the present precision are given the new one.

        Those are the float32 islands that an eager cast leaves behind: casts, masks and constants made in the graph.
        """
        import copy

        old, new = torch_dtype(self.effective_precision), torch_dtype(dtype)
        graph = copy.deepcopy(self.graph).to(new)
        for node in graph.graph.nodes:
            if node.op == "call_function" and "_assert_tensor_metadata" in str(node.target):
                graph.graph.erase_node(node)
                continue
            node.args = tuple(new if argument is old else argument for argument in node.args)
            node.kwargs = {key: new if value is old else value for key, value in node.kwargs.items()}
        graph.recompile()
        return TorchExportModel(
            graph,
            inputs=[cast_port(port, dtype) for port in self._inputs],
            outputs=self._outputs,
            threads=self._threads,
            where=self.where,
        )

    def close(self) -> None:
        """Nothing to free beyond the graph itself."""

    def _tensors(self, feeds: Feeds) -> dict[str, torch.Tensor]:
        checked = checked_feeds(self.signature, feeds, where=self.where, allows_nan=self.allows_nan)
        return {port.name: input_from_array(checked[port.name], port.dtype) for port in self._inputs}

    def _needed(
        self, ends: Sequence[torch.fx.Node], cut: Collection[torch.fx.Node], sizes: Collection[str]
    ) -> list[torch.fx.Node]:
        """Nodes between the cut and the ends, in the order of the graph; a size that the cut shows needs no more."""
        needed: set[torch.fx.Node] = set()
        waiting = [node for node in ends if node not in cut]
        while waiting:
            node = waiting.pop()
            if node.op == "placeholder":
                raise Unsupported(
                    f"the outputs also need {node.name!r}, which is not among the inputs", where=self.where
                )
            if node not in needed:
                needed.add(node)
                if _symbol(node) not in sizes:
                    waiting.extend(used for used in node.all_input_nodes if used not in cut)
        return [node for node in self.graph.graph.nodes if node in needed]

    def _stopped(self, error: Exception, feeds: Feeds) -> Unsupported:
        return Unsupported(
            f"the graph stopped: {str(error).strip()[:500]}",
            where=self.where,
            hint="feeds: " + ", ".join(f"{name} {value.shape}" for name, value in feeds.items()),
        )


def _pass_by_name(graph: torch.fx.GraphModule) -> None:
    """Let a graph take its inputs by their names, however its program takes them: in order, by name, in containers.

    What was given as a constant when it was exported, and is used by nothing, is no input.
    """
    from torch.fx.graph import _PyTreeCodeGen, _PyTreeInfo
    from torch.utils import _pytree as pytree

    for node in graph.graph.find_nodes(op="placeholder"):
        value = node.meta.get("val", node)
        if not node.users and (value is None or isinstance(value, bool | int | float | str)):
            graph.graph.erase_node(node)
    names = [str(node.target) for node in graph.graph.find_nodes(op="placeholder")]
    _, by_name = pytree.tree_flatten(((), dict.fromkeys(names)), is_leaf=lambda value: value is None)
    codegen: Any = graph.graph._codegen
    graph.graph.set_codegen(_PyTreeCodeGen(_PyTreeInfo(names, by_name, codegen.pytree_info.out_spec)))
    graph.recompile()


def _tap(node: torch.fx.Node, order: int, tensor: torch.Tensor, reduce: Reduce | None) -> Tap:
    array = array_from_tensor(tensor)
    if reduce is not None:
        return Tap(node.name, _operator(node), module_scope(node), order, kept=reduce(array))
    return Tap(node.name, _operator(node), module_scope(node), order, value=array.copy())


def _symbol(node: torch.fx.Node) -> str:
    """The symbol of a size that a node reads off a tensor; empty for other nodes."""
    value = node.meta.get("val")
    return str(value) if str(node.target) == "aten.sym_size.int" and value is not None else ""


def _sizes_of(part: torch.fx.Graph, inputs: Iterable[torch.fx.Node]) -> dict[str, torch.fx.Node]:
    """Symbol → a node that reads that size off one of the inputs."""
    import torch

    sizes: dict[str, torch.fx.Node] = {}
    for place in list(inputs):
        for axis, extent in enumerate(getattr(place.meta.get("val"), "shape", ())):
            if not isinstance(extent, int) and str(extent) not in sizes:
                sizes[str(extent)] = part.call_function(torch.ops.aten.sym_size.int, (place, axis))
    return sizes


def _operator(node: torch.fx.Node) -> str:
    return str(node.target) if node.op == "call_function" else f"{node.op}:{node.target}"


def module_scope(node: torch.fx.Node) -> str:
    """The innermost module that the operator was written in."""
    stack = [place for place in (node.meta.get("nn_module_stack") or {}).values() if not place[0].startswith("_empty")]
    return str(stack[-1][0]) if stack else ""


def _port(node: torch.fx.Node, name: str | None = None) -> Port:
    value = node.meta.get("val")
    if value is None or not hasattr(value, "shape"):
        return Port(name or str(node.target), "float32")
    extents = tuple(extent if isinstance(extent, int) else str(extent) for extent in value.shape)
    return Port(name or str(node.target), dtype_name(value.dtype), extents)


def _require_arithmetic(content: bytes, path: str) -> None:
    """Refuse expressions over sizes that are more than arithmetic: torch hands them to sympy, which evaluates them."""
    import zipfile

    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            for member in archive.infolist():
                if member.filename.endswith(".json") and "/models/" in f"/{member.filename}":
                    if member.file_size > MAX_HEADER_BYTES:
                        raise Damaged(f"{member.filename} has {member.file_size} bytes", where=path)
                    _check_expressions(json.loads(archive.read(member)), path)
    except (zipfile.BadZipFile, ValueError, RecursionError, KeyError, NotImplementedError, OSError) as error:
        raise Damaged(f"not an archive of torch.export: {error}", where=path) from error


def _check_expressions(value: Any, path: str) -> None:
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, Mapping):
            expression = item.get("expr_str")
            if isinstance(expression, str) and not _is_arithmetic(expression):
                raise PermitRefused(
                    f"an expression over sizes is more than arithmetic: {expression[:100]!r}",
                    where=path,
                    hint="torch would evaluate it; do not load this file",
                )
            waiting.extend(item.values())
        elif isinstance(item, list):
            waiting.extend(item)


def _is_arithmetic(expression: str) -> bool:
    expression = _DECIMAL.sub("0", _FLOAT.sub("0", _SYMBOL.sub("s", expression)))
    if "__" in expression or not _EXPRESSION.fullmatch(expression):
        return False
    return all(name in _FUNCTIONS for name in _CALLED.findall(expression))
