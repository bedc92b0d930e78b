"""Places in a torch network where gradients can be held back: modules, and operands of the functions that it calls."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from torch import nn

_OPERANDS = 2
"""Of a function that are tried: what a residual connection adds, what a gate multiplies."""


class GradientSite(msgspec.Struct, frozen=True):
    """One place.

    Attributes:
        place: how evidence names it: a module, or a function in one.
        told: the place in a sentence.
        module: whose input or output it is; empty for operands of functions.
        where: `input`, `output` or `operand`.
        call, operand: position of the function in the pass, and of the tensor among its operands.
    """

    place: str
    told: str
    module: str = ""
    where: str = "operand"
    call: int = -1
    operand: int = 0


def module_sites(network: nn.Module) -> Iterator[GradientSite]:
    """Outputs, then inputs of the modules, the innermost and then the last first: what is behind has no part in it."""
    declared = list(enumerate(name for name, _ in network.named_modules() if name))
    names = [name for _, name in sorted(declared, key=lambda one: (-one[1].count("."), -one[0]))]
    for where in ("output", "input"):
        yield from (GradientSite(name, f"the {where} of {name}", name, where) for name in names)


class WatchedCalls:
    """Notes the functions of tensors that a pass calls, and changes an operand of one.

    Args:
        network: whose modules tell where a function is called.
        site: whose operand is changed; None to note only.
        factor: by which gradients go back through it.
    """

    def __init__(self, network: nn.Module, site: GradientSite | None = None, factor: float = 1.0) -> None:
        self.sites: list[GradientSite] = []
        self._network = network
        self._site = site
        self._factor = factor
        self._calls = 0
        self._stack: list[str] = []
        self._open: contextlib.ExitStack

    def __enter__(self) -> WatchedCalls:
        from torch.overrides import TorchFunctionMode

        watched = self

        class Mode(TorchFunctionMode):
            def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
                return func(*watched.noted(func, args), **(kwargs or {}))

        self._open = contextlib.ExitStack()
        for name, module in self._network.named_modules():
            before = module.register_forward_pre_hook(lambda _, __, name=name: self._stack.append(name))
            after = module.register_forward_hook(lambda *_: self._left(), always_call=True)
            self._open.callback(before.remove)
            self._open.callback(after.remove)
        self._open.enter_context(Mode())
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def _left(self) -> None:
        self._stack.pop()

    def noted(self, function: Any, operands: tuple[Any, ...]) -> tuple[Any, ...]:
        """The operands of a call, one of them changed where the site says so."""
        import torch

        call, self._calls = self._calls, self._calls + 1
        made = list(operands)
        for position, value in enumerate(operands[:_OPERANDS]):
            if not isinstance(value, torch.Tensor) or not value.requires_grad or value.is_leaf:
                continue
            name = getattr(function, "__name__", str(function)).strip("_")
            scope = self._stack[-1] if self._stack else ""
            place = f"{scope}.{name}" if scope else name
            told = f"operand {position} of {name}" + (f" in {scope}" if scope else "")
            self.sites.append(GradientSite(place, told, call=call, operand=position))
            if self._site is not None and (self._site.call, self._site.operand) == (call, position):
                made[position] = passed(value, self._factor)
        return tuple(made)


@contextlib.contextmanager
def passing(network: nn.Module, site: GradientSite, factor: float) -> Iterator[None]:
    """Gradients go back through a site times a factor."""
    if site.where == "operand":
        with WatchedCalls(network, site, factor):
            yield
        return
    hooked = network.get_submodule(site.module)
    if site.where == "output":
        hook = hooked.register_forward_hook(lambda _, __, outputs: passed(outputs, factor))
    else:
        hook = hooked.register_forward_pre_hook(lambda _, inputs: passed(inputs, factor))
    try:
        yield
    finally:
        hook.remove()


def passed(tensors: Any, factor: float) -> Any:
    """The same values; their gradients go back times a factor."""
    import torch

    if isinstance(tensors, tuple | list):
        return type(tensors)(passed(one, factor) for one in tensors)
    if not isinstance(tensors, torch.Tensor) or not tensors.is_floating_point():
        return tensors
    return tensors.detach() if factor == 0 else tensors.detach() * (1 - factor) + tensors * factor
