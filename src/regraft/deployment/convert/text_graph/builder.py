"""A graph of ONNX that grows node by node: `graph.Gather(table, ids)` adds an operator and names its result."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import onnx
    from numpy.typing import ArrayLike

_DOMAINS = {"LabelEncoder": "ai.onnx.ml", "Tokenizer": "com.microsoft"}


class GraphBuilder:
    """Nodes and constants whose names begin alike.

    Args:
        prefix: of every name, so that the graph can be put in front of another one.
    """

    def __init__(self, prefix: str) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.declared: list[onnx.ValueInfoProto] = []
        self._prefix = prefix
        self._known: dict[tuple[Any, ...], str] = {}
        self._count = 0

    def __getattr__(self, operator: str) -> Callable[..., str]:
        """An operator by its name in ONNX, called with the names of its inputs and with its attributes."""
        if not operator[0].isupper():
            raise AttributeError(operator)
        return lambda *inputs, **attributes: self.several(operator, 1, *inputs, **attributes)[0]

    def several(self, operator: str, count: int, *inputs: str, **attributes: Any) -> list[str]:
        """Add an operator of several results; their names."""
        from onnx import helper

        results = [self.name() for _ in range(count)]
        domain = _DOMAINS.get(operator, "")
        self.nodes.append(helper.make_node(operator, list(inputs), results, results[0], domain=domain, **attributes))
        return results

    def declare(self, name: str, kind: int, shape: Sequence[str]) -> None:
        """Say the type of a value that ONNX cannot infer, because another domain's operator makes it."""
        from onnx import helper

        self.declared.append(helper.make_tensor_value_info(name, kind, list(shape)))

    def name(self) -> str:
        """A name that nothing has yet."""
        self._count += 1
        return f"{self._prefix}{self._count}"

    def integers(self, values: ArrayLike) -> str:
        """A constant of int64, kept once."""
        import numpy as np

        return self.constant(np.asarray(values, dtype=np.int64))

    def real(self, value: float) -> str:
        """A constant of float32."""
        import numpy as np

        return self.constant(np.asarray(value, dtype=np.float32))

    def constant(self, value: Any) -> str:
        """A constant of the array's own dtype, kept once."""
        from onnx import numpy_helper

        key = (str(value.dtype), value.shape, value.tobytes())
        if key not in self._known:
            self._known[key] = self.name()
            self.constants.append(numpy_helper.from_array(value, self._known[key]))
        return self._known[key]

    def truth(self, value: str) -> str:
        """A number as a boolean."""
        from onnx import TensorProto

        return self.Cast(value, to=TensorProto.BOOL)

    def number(self, value: str) -> str:
        """A boolean as 0 or 1."""
        from onnx import TensorProto

        return self.Cast(value, to=TensorProto.INT64)

    def part(self, value: str, start: int, stop: int, *, axis: int = 0) -> str:
        """From `start` up to `stop` along an axis."""
        return self.Slice(value, self.integers([start]), self.integers([stop]), self.integers([axis]))

    def places(self, condition: str) -> str:
        """Where a vector of booleans is true, (n,)."""
        return self.Reshape(self.NonZero(condition), self.integers([-1]))

    def body(self, name: str, inputs: Sequence[str], outputs: Sequence[str], kinds: Sequence[int]) -> onnx.GraphProto:
        """What was built so far as the body of a loop over vectors: pass number and condition come first.

        Args:
            name: of the graph.
            inputs: pass number, condition, then what is carried from pass to pass.
            outputs: condition, then what is carried.
            kinds: element types of what is carried.
        """
        from onnx import TensorProto, helper

        carried: list[tuple[int, list[Any]]] = [(kind, [None]) for kind in kinds]
        heads: list[tuple[int, list[Any]]] = [(TensorProto.INT64, []), (TensorProto.BOOL, [])]
        taken = [_value(*one) for one in zip(inputs, [*heads, *carried], strict=True)]
        made = [_value(*one) for one in zip(outputs, [heads[1], *carried], strict=True)]
        return helper.make_graph(self.nodes, name, taken, made, self.constants)


def _value(name: str, kind: tuple[int, list[Any]]) -> onnx.ValueInfoProto:
    from onnx import helper

    return helper.make_tensor_value_info(name, *kind)
