"""From a factory of the user's to a side: which framework its parts are of."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from regraft.conceptual.stages.declaration import Declaration
from regraft.errors import RegraftError, Unsupported

if TYPE_CHECKING:
    from regraft.conceptual.stages.interface import Side


def side_from_factory(place: str) -> Side:
    """The side that a factory of the user's describes.

    Args:
        place: `py:module:factory` or `module:factory`; called without arguments, once for every question that a stage
            asks. It returns a dict; its keys are those of `declaration.KEYS`.
    Raises:
        NotFound: there is no such module or factory.
        UsageError: what it returns is no such dict.
        Unsupported: it failed, or its parts are of no framework that is known.
    """
    from regraft.runtime.torch_factory import named_factory

    bare = place.removeprefix("py:")
    return side_from_function(named_factory(bare), where=f"py:{bare}")


def side_from_function(factory: Callable[[], object], *, where: str) -> Side:
    """As `side_from_factory`, for the function itself.

    Args:
        factory: called without arguments.
        where: how errors and evidence name it.
    """
    framework = _framework(factory, where)
    if framework == "torch":
        from regraft.conceptual.stages.torch_side import TorchSide

        return TorchSide(factory, where)
    if framework == "keras":
        from regraft.conceptual.stages.keras_side import KerasSide

        return KerasSide(factory, where)
    from regraft.conceptual.stages.jax_side import JaxSide

    return JaxSide(factory, where)


def _framework(factory: Callable[[], object], where: str) -> str:
    try:
        made = Declaration(factory(), where)
    except RegraftError:
        raise
    except (Exception, SystemExit) as error:  # the user's code may raise anything
        raise Unsupported(f"the factory failed: {type(error).__name__}: {error}", where=where) from error
    told = [made.get(key) for key in ("model", "optimiser", "schedule")]
    torch, keras = sys.modules.get("torch"), sys.modules.get("keras")
    if keras is not None and any(isinstance(one, keras.Model | keras.optimizers.Optimizer) for one in told):
        return "keras"
    if "weights" in made.parts:
        return "jax"
    if torch is not None and (
        any(isinstance(one, torch.nn.Module | torch.optim.Optimizer) for one in told) or hasattr(told[2], "step")
    ):
        return "torch"
    if "model" in made.parts:
        raise Unsupported(
            f"the model is {type(told[0]).__name__}: no module of torch or Keras, and there are no `weights` beside it",
            where=where,
            hint="a function of JAX needs weights={...} beside it",
        )
    return "torch" if torch is not None and "loss" in made.parts else "jax"
