"""A traced JAX function as operators that run alone, also in float64: its jaxpr, with calls written out."""

from __future__ import annotations

import contextlib
import copy
import functools
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from regraft.errors import MissingExtra, Unsupported
from regraft.runtime.operator_graph import OperatorNode

if TYPE_CHECKING:
    from regraft.runtime.interface import Array
    from regraft.runtime.operator_graph import Values

_CALLS = {
    "jit": "jaxpr", "pjit": "jaxpr", "closed_call": "call_jaxpr", "core_call": "call_jaxpr", "remat2": "jaxpr",
    "checkpoint": "jaxpr", "custom_jvp_call": "call_jaxpr", "custom_vjp_call": "call_jaxpr",
    "custom_vjp_call_jaxpr": "fun_jaxpr",
}  # fmt: skip
"""Primitives that only call another jaxpr, and the parameter that holds it: their equations take their place."""
_FLOATS = frozenset({"float16", "bfloat16", "float32"})


class JaxGraph:
    """The equations of a jaxpr.

    Args:
        closed: what `jax.make_jaxpr` returned, traced without 64 bit types.
        inputs: names of its flat inputs, in order, weights included.
        weights: input → value of those that are weights.
        where: how errors name it.
    Attributes:
        places: input, or result of an equation → dtype and shape.
    """

    def __init__(
        self, closed: Any, inputs: Sequence[str], *, weights: Mapping[str, Any] | None = None, where: str = ""
    ) -> None:
        self.where = where
        self._constants: dict[str, Any] = dict(weights or {})
        self.weight_names = tuple(self._constants)
        self.inputs = tuple(name for name in inputs if name not in self._constants)
        self._equations: dict[str, Any] = {}
        self._counts: dict[str, int] = {}
        self.places: dict[str, tuple[str, tuple[int, ...]]] = {}
        self._note(closed.jaxpr.invars, inputs)
        nodes: list[OperatorNode] = []
        self.outputs = tuple(self._write_out(closed, inputs, "", nodes))
        self.nodes: Sequence[OperatorNode] = tuple(nodes)

    def constant(self, name: str) -> Array | None:
        """The value of a weight or a literal."""
        import numpy as np

        value = self._constants.get(name)
        return None if value is None else np.asarray(value)

    @property
    def constant_names(self) -> Sequence[str]:
        """Weights and literals."""
        return tuple(self._constants)

    def with_rounded_weights(self, precision: str, *, kept: Collection[str] = ()) -> JaxGraph:
        """See `OperatorGraph.with_rounded_weights`."""
        import jax.numpy as jnp

        with running():
            rounded = {
                name: jnp.asarray(value).astype(precision).astype(value.dtype)
                for name, value in self._constants.items()
                if getattr(value, "ndim", 0) and str(value.dtype) == "float32" and name not in kept
            }
        graph = copy.copy(self)
        graph._constants = {**self._constants, **rounded}
        return graph

    def equation(self, node: OperatorNode) -> Any:
        """The equation that an operator is, as jax has it."""
        return self._equations[node.name]

    def run(self, node: OperatorNode, values: Values, *, precision: str = "float32") -> dict[str, Any]:
        """Run one operator; see `OperatorGraph.run`."""
        import numpy as np

        with running(is_wide=precision == "float64"):
            try:
                results = self.bind(node, values, is_wide=precision == "float64")
            except Exception as error:  # jax raises what it likes
                raise Unsupported(
                    f"{node.operator} cannot be run in {precision}: {str(error)[:300]}", where=self.where
                ) from error
            return {name: np.asarray(value) for name, value in zip(node.outputs, results, strict=True) if name}

    def bind(self, node: OperatorNode, values: Mapping[str, Any], *, is_wide: bool) -> list[Any]:
        """Results of one equation, as jax values: also while jax traces.

        Args:
            node: of `nodes`.
            values: at least what is no constant; a value under the name of a constant takes its place.
            is_wide: compute in float64 whatever has a lower floating-point dtype.
        """
        operands = [values[name] if name in values else self._constants[name] for name in node.inputs]
        return _bind(self._equations[node.name], operands, is_wide=is_wide)

    def evaluate(self, values: Mapping[str, Any], outputs: Sequence[str], *, is_wide: bool = False) -> list[Any]:
        """Tensors by name, from values of inputs or of any tensors in between; what is not needed is not run.

        Raises:
            Unsupported: they also need something that is not given; or there is no such tensor.
        """
        known: dict[str, Any] = dict(values)
        for node in self.needed(list(values), outputs):
            results = self.bind(node, known, is_wide=is_wide)
            known.update((name, value) for name, value in zip(node.outputs, results, strict=True) if name)
        return [known[name] if name in known else self._constants[name] for name in outputs]

    def needed(self, given: Sequence[str], outputs: Sequence[str]) -> list[OperatorNode]:
        """The operators that lead from given tensors to outputs, in order.

        Raises:
            Unsupported: as `evaluate`.
        """
        makers = {name: node for node in self.nodes for name in node.outputs if name}
        wanted, waiting = set(), [name for name in outputs if name not in given]
        while waiting:
            name = waiting.pop()
            if name in self._constants:
                continue
            if name not in makers:
                known = name in self.inputs
                what = f"the outputs also need {name!r}" if known else f"there is no such tensor: {name!r}"
                raise Unsupported(what, where=self.where)
            if makers[name].name not in wanted:
                wanted.add(makers[name].name)
                waiting += [other for other in makers[name].inputs if other not in given]
        return [node for node in self.nodes if node.name in wanted]

    def _write_out(self, closed: Any, inputs: Sequence[str], scope: str, nodes: list[OperatorNode]) -> list[str]:
        """Add the equations of a jaxpr; the names of its outputs."""
        from jax.extend.core import DropVar, Literal

        jaxpr = closed.jaxpr
        names: dict[Any, str] = dict(zip(jaxpr.invars, inputs, strict=True))
        for variable, value in zip(jaxpr.constvars, closed.consts, strict=True):
            names[variable] = self._constant_named("const", value)

        def name_of(atom: Any) -> str:
            return self._constant_named("literal", atom.val) if isinstance(atom, Literal) else names[atom]

        for equation in jaxpr.eqns:
            operator = equation.primitive.name
            inner = "/".join(part for part in (scope, str(equation.source_info.name_stack)) if part)
            operands = [name_of(atom) for atom in equation.invars]
            if operator in _CALLS:
                called = self._write_out(_closed(equation.params[_CALLS[operator]]), operands, inner, nodes)
                names.update(zip(equation.outvars, called, strict=True))
                continue
            name = self._unique(operator)
            several = len(equation.outvars) > 1
            outputs = [f"{name}.{i}" if several else name for i in range(len(equation.outvars))]
            names.update(zip(equation.outvars, outputs, strict=True))
            self._note(equation.outvars, outputs)
            dropped = [isinstance(variable, DropVar) for variable in equation.outvars]
            made = tuple("" if is_dropped else o for o, is_dropped in zip(outputs, dropped, strict=True))
            self._equations[name] = equation
            nodes.append(OperatorNode(name, operator, tuple(operands), made, inner))
        return [name_of(atom) for atom in jaxpr.outvars]

    def _note(self, variables: Sequence[Any], names: Sequence[str]) -> None:
        for variable, name in zip(variables, names, strict=True):
            self.places[name] = (str(variable.aval.dtype), tuple(variable.aval.shape))

    def _constant_named(self, prefix: str, value: Any) -> str:
        name = self._unique(prefix)
        self._constants[name] = value
        return name

    def _unique(self, prefix: str) -> str:
        while True:
            count = self._counts[prefix] = self._counts.get(prefix, -1) + 1
            if f"{prefix}_{count}" not in self.weight_names:
                return f"{prefix}_{count}"


@contextlib.contextmanager
def running(*, is_wide: bool = False) -> Iterator[None]:
    """On the CPU, whatever accelerators there are, with or without 64 bit types.

    Raises:
        MissingExtra: jax is not installed.
    """
    jax = import_jax()
    with jax.default_device(jax.devices("cpu")[0]), jax.enable_x64(is_wide), jax.default_matmul_precision("highest"):
        yield


def import_jax(where: str = "") -> Any:
    """The jax module.

    Raises:
        MissingExtra: it is not installed.
    """
    try:
        import jax
    except ImportError as error:
        raise MissingExtra("jax", extra="jax", where=where) from error
    return jax


def _bind(equation: Any, operands: Sequence[Any], *, is_wide: bool) -> list[Any]:
    parameters = equation.params
    if is_wide:
        operands = [_wide(value) for value in operands]
        parameters = {key: _wide_parameter(value) for key, value in parameters.items()}
    results = equation.primitive.bind(*operands, **equation.primitive.get_bind_params(parameters))
    return list(results) if equation.primitive.multiple_results else [results]


def _wide(value: Any) -> Any:
    """A value in float64 when it is a floating-point one."""
    import jax.numpy as jnp

    dtype = getattr(value, "dtype", None)
    if str(dtype) in _FLOATS:
        return jnp.asarray(value).astype("float64")
    return jnp.asarray(value, dtype="float64") if isinstance(value, float) else value


def _wide_parameter(value: Any) -> Any:
    """Dtypes in the parameters of an equation become float64, and so do the bodies of loops and branches."""
    import numpy as np

    if isinstance(value, tuple | list):
        return type(value)(_wide_parameter(item) for item in value) if type(value) in (tuple, list) else value
    if hasattr(value, "jaxpr") and hasattr(value, "consts"):
        return _wide_jaxpr(value)
    if hasattr(value, "eqns"):
        return _wide_jaxpr(_closed(value)).jaxpr
    if isinstance(value, np.dtype) or (isinstance(value, type) and issubclass(value, np.generic)):
        return np.dtype("float64") if np.dtype(value).name in _FLOATS else value
    return value


def _wide_jaxpr(closed: Any) -> Any:
    import jax

    places = [jax.ShapeDtypeStruct(a.shape, "float64" if str(a.dtype) in _FLOATS else a.dtype) for a in closed.in_avals]
    return jax.make_jaxpr(functools.partial(_evaluated, closed))(*places)


def _evaluated(closed: Any, *operands: Any) -> list[Any]:
    """The outputs of a jaxpr, every equation in float64."""
    from jax.extend.core import Literal

    jaxpr = closed.jaxpr
    known: dict[Any, Any] = dict(zip(jaxpr.constvars, map(_wide, closed.consts), strict=True))
    known.update(zip(jaxpr.invars, operands, strict=True))

    def value_of(atom: Any) -> Any:
        return _wide(atom.val) if isinstance(atom, Literal) else known[atom]

    for equation in jaxpr.eqns:
        given = [value_of(atom) for atom in equation.invars]
        inner = _CALLS.get(equation.primitive.name)
        if inner is not None:
            results = _evaluated(_closed(equation.params[inner]), *given)
        else:
            results = _bind(equation, given, is_wide=True)
        known.update(zip(equation.outvars, results, strict=True))
    return [value_of(atom) for atom in jaxpr.outvars]


def _closed(jaxpr: Any) -> Any:
    """A jaxpr with its constants; one that has none of its own is closed by none."""
    from jax.extend.core import ClosedJaxpr

    return jaxpr if hasattr(jaxpr, "consts") else ClosedJaxpr(jaxpr, ())
