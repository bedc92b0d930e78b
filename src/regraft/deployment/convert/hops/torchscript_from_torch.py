"""TorchScript from an eager network, by tracing one pass: torch advises torch.export, runtimes in C++ ask for this."""

from __future__ import annotations

import contextlib
import io
import traceback
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from regraft.deployment.convert.interface import Hop, Source
from regraft.deployment.convert.obstacles import missing
from regraft.deployment.convert.proving import prove
from regraft.errors import Unsupported

if TYPE_CHECKING:
    import torch

    from regraft.runtime.interface import Feeds
    from regraft.runtime.torch_module import TorchModel

_SIZES = frozenset({"aten::size", "aten::dim", "aten::numel", "aten::len", "prim::GetAttr"})
"""Where a way back through a trace ends that did not begin with a value of an input; weights are always the same."""


class TorchScriptFromTorch:
    """Traces eager networks; those whose branches depend on values are refused, as a trace would keep one of them."""

    name = "torchscript_from_torch"
    source = "torch"
    target = "torchscript"
    cost = 4

    def obstacle(self) -> str:
        """PyTorch must be installed."""
        return missing("torch", extra="torch")

    def convert(self, source: Source) -> Hop:
        """Trace the first example, and run what was written at the sizes of all.

        Raises:
            Unsupported: torch cannot trace the network, a branch of it depends on values, or the trace returns other
                shapes at other sizes.
        """
        import torch

        from regraft.runtime.torch_module import TorchModel
        from regraft.runtime.torch_script import TorchScriptModel

        model = source.loaded()
        if not isinstance(model, TorchModel):
            raise Unsupported(f"a {type(model).__name__} is no eager module, and cannot be traced", where=model.where)
        content = io.BytesIO()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch advises torch.export here
            jit: Any = torch.jit
            jit.save(_traced(model, source.feeds[0]), content)
            product = TorchScriptModel(jit.load(io.BytesIO(content.getvalue())), where=model.where)
        prove(product, model, source.feeds, {port.name: port.name for port in model.signature.inputs})
        versions = {"torch": str(torch.__version__)}
        return Hop({"model.pt": content.getvalue()}, "torch", versions=versions, precision=None)


def _traced(model: TorchModel, feeds: Feeds) -> torch.jit.ScriptModule:
    import torch

    from regraft.runtime.torch_tensors import tensor_from_array

    ports = model.signature.inputs
    tensors = tuple(tensor_from_array(feeds[port.name], port.dtype) for port in ports)
    named = _named(model, [port.name for port in ports])
    jit: Any = torch.jit
    try:
        with torch.no_grad(), warnings.catch_warnings(), _watching() as looks:
            warnings.simplefilter("ignore")
            traced = jit.trace(named, tensors, strict=False, check_trace=False)
        frozen: torch.jit.ScriptModule = jit.freeze(traced.eval())
    except Exception as error:
        text = " ".join(str(error).split())[:500]
        raise Unsupported(f"torch.jit cannot trace the network: {text}", where=model.where) from error
    if looks:
        raise Unsupported(
            f"a branch or a loop depends on values, and a trace would keep what its example took: {looks[0]}",
            where=model.where,
        )
    return frozen


@contextlib.contextmanager
def _watching() -> Iterator[list[str]]:
    """While a network is traced: where Python looks at a value that comes from an input.

    Sizes are values to the tracer, too. A branch that they decide is no reason to refuse: that it is taken at every
    size is proven by running them.
    """
    import torch
    from torch.overrides import TorchFunctionMode

    tensor: Any = torch.Tensor
    looking = {tensor.__bool__, tensor.__int__, tensor.__float__, tensor.__index__, tensor.item, tensor.tolist}
    found: list[str] = []

    class Watching(TorchFunctionMode):
        def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if function in looking and _is_of_values(args[0]):
                frame = next(one for one in reversed(traceback.extract_stack()) if one.filename != __file__)
                found.append(f"{Path(frame.filename).name}, line {frame.lineno}: {frame.line}")
            return function(*args, **(kwargs or {}))

    with Watching():
        yield found


def _is_of_values(tensor: torch.Tensor) -> bool:
    """Does a tensor of the running trace come from a value of an input, and not from sizes alone?"""
    import torch

    internal: Any = torch._C
    if internal._get_tracing_state() is None:
        return False
    waiting, seen = [internal._get_value_trace(tensor).node()], set()
    while waiting:
        node = waiting.pop()
        if node.kind() == "prim::Param":
            return True
        if node.kind() not in _SIZES and node not in seen:
            seen.add(node)
            waiting += [value.node() for value in node.inputs()]
    return False


def _named(model: TorchModel, names: list[str]) -> torch.nn.Module:
    """The network, called by position; its arguments have the signature's names, its outputs theirs."""
    import inspect

    from torch import nn

    from regraft.runtime.torch_tensors import named_tensors

    class Named(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = model.module

        def forward(self, *values: torch.Tensor) -> object:
            result = self.network(**dict(zip(names, values, strict=True)))
            return dict(named_tensors(result))

    module = Named()
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    parameters = [inspect.Parameter(name, kind) for name in ("self", *names)]
    Named.forward.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return module
