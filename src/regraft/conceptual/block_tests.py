"""Regression tests of a network's blocks: a folder with a test file and small fixtures, which needs torch alone.

Every block is run by itself on inputs of the shapes that it has in the network, with weights drawn from a frozen
generator, so that the fixtures stay small and hold whatever the network has learnt since.
"""

from __future__ import annotations

import copy
import inspect
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from regraft.compare.judge import threshold
from regraft.compare.noise import unit_roundoff
from regraft.errors import Unsupported, UsageError
from regraft.package.product import new_package

if TYPE_CHECKING:
    from torch import Tensor, nn

    from regraft.runtime.interface import Feeds, Model

_KEPT = 4096
"""Numbers of an argument that are kept; real numbers that are more are drawn anew by the test."""
_MAX_BLOCKS = 64
"""Blocks that get a test, the first ones; those after them are named as left out."""
_PROGRAM = '''"""Every block of {module}:{function} still computes what it computed.

Written by `regraft replicate --emit-tests`; needs torch, numpy and pytest. blocks.json holds the fixtures.

usage: pytest {folder}
"""

import copy
import json
from pathlib import Path

import pytest
from block_fixtures import complaint
from {module} import {function}

BLOCKS = json.loads((Path(__file__).parent / "blocks.json").read_text())


@pytest.fixture(scope="session")
def network():
    built = {function}()
    return built[0] if isinstance(built, tuple) else built


@pytest.mark.parametrize("name", BLOCKS)
def test_block(network, name):
    assert not complaint(copy.deepcopy(network.get_submodule(name)), BLOCKS[name])
'''


class Emitted(msgspec.Struct, frozen=True):
    """What was written.

    Attributes:
        blocks: names of the submodules that have a test.
        left_out: others that were looked at → why they have none.
    """

    blocks: tuple[str, ...]
    left_out: dict[str, str]


def emit_tests(model: Model, feeds: Feeds, *, factory: str, folder: Path) -> Emitted:
    """Write a test for every block of a network.

    A block is a child of the network, or of a list of layers in it. What it should return is its own float64 run;
    what it may be off is what was measured to be benign, in units of its own rounding error.

    Args:
        model: an eager torch model.
        feeds: inputs that it accepts; the shapes inside of it are taken from their pass.
        factory: `module:function` that the tests build the network with.
        folder: to make; it must not exist, or be empty.
    Raises:
        UsageError: no such factory was given, or the folder is taken.
        Unsupported: the model is no eager torch module, or none of its blocks can be run by itself.
    """
    module: Any = getattr(model, "module", None)
    if type(model).__name__ != "TorchModel" or module is None:
        raise Unsupported("tests of blocks are written for eager torch modules", where=model.where)
    if factory.count(":") != 1 or not all(part.isidentifier() for part in factory.replace(":", ".").split(".")):
        raise UsageError(f"{factory!r} names no function that builds a network", hint="py:module:function")
    blocks = list(_blocks(module))
    tested = blocks[:_MAX_BLOCKS]
    calls = _calls(model, tested, feeds)
    kept: dict[str, Any] = {}
    left_out: dict[str, str] = {}
    for name, block in tested:
        try:
            kept[name] = _fixture(block, name, calls)
        except Unsupported as error:
            left_out[name] = error.what
    left_out |= {name: f"only the first {_MAX_BLOCKS} blocks have tests" for name, _ in blocks[_MAX_BLOCKS:]}
    if not kept:
        why = next(iter(left_out.values()), "it has no blocks")
        raise Unsupported(f"no block can be tested by itself: {why}", where=model.where)
    _write(folder, kept, factory)
    return Emitted(tuple(kept), left_out)


def _write(folder: Path, kept: Mapping[str, Any], factory: str) -> None:
    from regraft.conceptual import block_fixtures

    module, function = factory.split(":")
    with new_package(folder) as made:
        (made / "blocks.json").write_text(json.dumps(kept, indent=1) + "\n", "utf-8")
        (made / "block_fixtures.py").write_text(inspect.getsource(block_fixtures), "utf-8")
        program = _PROGRAM.format(module=module, function=function, folder=folder.name)
        (made / "test_blocks.py").write_text(program, "utf-8")


def _blocks(network: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Children that have weights, in order; lists, and wraps around a single child, are opened."""
    import torch

    waiting = list(network.named_children())
    while waiting:
        name, module = waiting.pop(0)
        inner = list(module.named_children())
        is_list = isinstance(module, torch.nn.ModuleList | torch.nn.ModuleDict | torch.nn.Sequential)
        own = [*module.parameters(recurse=False), *module.buffers(recurse=False)]
        is_wrap = len(inner) == 1 and not own
        if is_list or is_wrap:
            waiting = [(f"{name}.{inside}", child) for inside, child in inner] + waiting
        elif any(True for _ in module.parameters()):
            yield name, module


def _calls(
    model: Model, blocks: Sequence[tuple[str, nn.Module]], feeds: Feeds
) -> dict[str, tuple[tuple[Any, ...], dict[str, Any]]]:
    """Arguments of the first call of every block."""
    calls: dict[str, tuple[tuple[Any, ...], dict[str, Any]]] = {}

    def keep(name: str) -> Any:
        def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            calls.setdefault(name, (args, kwargs))

        return hook

    handles = [block.register_forward_pre_hook(keep(name), with_kwargs=True) for name, block in blocks]
    try:
        model(feeds)
    finally:
        for handle in handles:
            handle.remove()
    return calls


def _fixture(
    block: nn.Module, name: str, calls: Mapping[str, tuple[tuple[Any, ...], dict[str, Any]]]
) -> dict[str, Any]:
    """Arguments as JSON, constant buffers and outputs at sampled places, and how far off each output may be."""
    import torch

    from regraft.conceptual.block_fixtures import arguments, constants, fill, outputs

    if name not in calls:
        raise Unsupported("the pass did not call it")
    args, kwargs = calls[name]
    kept: dict[str, Any] = {
        "args": [_written(value) for value in args],
        "kwargs": {key: _written(value) for key, value in kwargs.items()},
    }
    plain = copy.deepcopy(block).float().eval()
    kept["constants"] = {key: _constant(value) for key, value in constants(plain).items()}
    fill(plain)
    exact = copy.deepcopy(plain).double()
    try:
        ours = outputs(plain, arguments(kept, torch.float32))
        truth = outputs(exact, arguments(kept, torch.float64))
    except Exception as error:  # whatever a network's own code raises
        raise Unsupported(f"it cannot be run by itself in float64: {str(error)[:200]}") from error
    if not truth:
        raise Unsupported("it returns no tensor of real numbers")
    return {**kept, "outputs": [_expected(a, b) for a, b in zip(ours, truth, strict=True)]}


def _constant(value: Tensor) -> dict[str, Any]:
    from regraft.conceptual.block_fixtures import digest, sampled

    return {"shape": list(value.shape), "digest": digest(value), "values": sampled(value).tolist()}


def _expected(ours: Tensor, truth: Tensor) -> dict[str, Any]:
    from regraft.conceptual.block_fixtures import sampled

    values = sampled(truth)
    scale = float(values.square().mean().sqrt())
    if not bool(truth.isfinite().all()) or not scale or truth.dtype != ours.double().dtype:
        raise Unsupported("it has no float64 run of finite numbers")
    error = float((sampled(ours) - values).square().mean().sqrt())
    floor = max(error, unit_roundoff("float32") * scale)
    allowed = threshold("float64", "float32").benign_rms * floor
    return {"shape": list(truth.shape), "values": values.tolist(), "allowed": allowed}


def _written(value: Any) -> dict[str, Any]:
    """An argument as JSON: a tensor of many real numbers by its shape alone."""
    import torch

    if isinstance(value, torch.Tensor):
        shape = list(value.shape)
        if value.is_floating_point() and value.numel() > _KEPT:
            return {"drawn": shape}
        if value.numel() > 16 * _KEPT:
            raise Unsupported("an argument holds too many whole numbers to be kept")
        dtype = str(value.dtype).removeprefix("torch.")
        return {"tensor": {"shape": shape, "dtype": dtype, "values": value.flatten().tolist()}}
    if value is None or isinstance(value, bool | int | float | str):
        return {"plain": value}
    if isinstance(value, list | tuple):
        return {"items": [_written(one) for one in value], "is_tuple": isinstance(value, tuple)}
    raise Unsupported(f"an argument is a {type(value).__name__}, which cannot be kept")
