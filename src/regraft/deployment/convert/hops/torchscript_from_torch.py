"""TorchScript from an eager network: one pass is traced, or its code compiled where values decide what it does."""

from __future__ import annotations

import io
import re
import traceback
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from regraft.deployment.convert.hops.traced_looks import place_in, traced_looks
from regraft.deployment.convert.interface import Hop, Source
from regraft.deployment.convert.obstacles import missing
from regraft.deployment.convert.proving import prove
from regraft.errors import Unsupported

if TYPE_CHECKING:
    import torch

    from regraft.runtime.interface import Feeds
    from regraft.runtime.torch_module import TorchModel
    from regraft.runtime.torch_script import TorchScriptModel

_PLACE = re.compile(r'File "([^"]+)", line (\d+)')
_HINT = (
    "write the branch with torch.cond, and convert it to torch-export or onnx; or write it as TorchScript compiles it"
)


class TorchScriptFromTorch:
    """Traces eager networks; those whose branches depend on values are compiled, as a trace would keep one of them."""

    name = "torchscript_from_torch"
    source = "torch"
    target = "torchscript"
    cost = 4

    def obstacle(self) -> str:
        """PyTorch must be installed."""
        return missing("torch", extra="torch")

    def convert(self, source: Source) -> Hop:
        """Trace the first example, else compile the network's code; run what was written at the sizes of all.

        Raises:
            Unsupported: torch can neither trace the network nor compile it, or the program returns other shapes.
        """
        import torch

        from regraft.runtime.torch_module import TorchModel
        from regraft.runtime.torch_script import TorchScriptModel

        model = source.loaded()
        if not isinstance(model, TorchModel):
            raise Unsupported("only eager networks are traced, and an exported program is none", where=model.where)
        content = io.BytesIO()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch advises torch.export here
            script, notes = _program(model, source.feeds[0])
            jit: Any = torch.jit
            jit.save(script, content)
            product = TorchScriptModel(jit.load(io.BytesIO(content.getvalue())), where=model.where)
        _require_inputs(product, model)
        prove(product, model, source.feeds, {port.name: port.name for port in model.signature.inputs})
        versions = {"torch": str(torch.__version__)}
        return Hop({"model.pt": content.getvalue()}, "torch", notes, versions, precision=None)


def _program(model: TorchModel, feeds: Feeds) -> tuple[torch.jit.ScriptModule, tuple[str, ...]]:
    """The network as a program, and why it was not traced, where it was not."""
    try:
        return _traced(model, feeds), ()
    except Unsupported as untraced:
        try:
            return _compiled(model), (f"compiled and not traced: {untraced.what}",)
        except Unsupported as error:
            raise Unsupported(f"{untraced.what}; {error.what}", where=model.where, hint=_HINT) from error


def _traced(model: TorchModel, feeds: Feeds) -> torch.jit.ScriptModule:
    """One pass. No branch in it that values decide: a trace would keep what its example took."""
    import torch

    from regraft.runtime.torch_tensors import tensor_from_array

    ports = model.signature.inputs
    tensors = tuple(tensor_from_array(feeds[port.name], port.dtype) for port in ports)
    named = _named(model, [port.name for port in ports])
    jit: Any = torch.jit
    try:
        with torch.no_grad(), warnings.catch_warnings(), traced_looks() as looks:
            warnings.simplefilter("ignore")
            traced = jit.trace(named, tensors, strict=False, check_trace=False)
        frozen: torch.jit.ScriptModule = jit.freeze(traced.eval())
    except Exception as error:
        text = " ".join(str(error).split())[:300]
        place = place_in(traceback.extract_tb(error.__traceback__))
        raise Unsupported(f"torch.jit cannot trace the network: {text} ({place})", where=model.where) from error
    if looks:
        raise Unsupported(f"a branch or a loop depends on values: {looks[0]}", where=model.where)
    return frozen


def _compiled(model: TorchModel) -> torch.jit.ScriptModule:
    """The code of the network, with its branches and loops."""
    import torch

    jit: Any = torch.jit
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            compiled: torch.jit.ScriptModule = jit.freeze(jit.script(model.module).eval())
    except Exception as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        place = _PLACE.search(str(error))
        at = f" ({Path(place[1]).name}, line {place[2]})" if place is not None else ""
        said = lines[0][:300].rstrip(":") if lines else type(error).__name__
        raise Unsupported(f"TorchScript cannot compile its code: {said}{at}", where=model.where) from error
    return compiled


def _require_inputs(product: TorchScriptModel, model: TorchModel) -> None:
    """What was compiled may leave inputs out that its code has values for."""
    taken = {port.name for port in product.signature.inputs}
    lacking = [port.name for port in model.signature.inputs if port.name not in taken]
    if lacking:
        raise Unsupported(f"the program does not ask for {', '.join(lacking)}", where=model.where)


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
