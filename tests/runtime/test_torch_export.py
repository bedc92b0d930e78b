from __future__ import annotations

import zipfile

import numpy as np
import pytest
import torch

from regraft.errors import Damaged, PermitRefused, RegraftError, Unsupported
from regraft.runtime.torch_export import TorchExportModel, _check_expressions, exported
from regraft.workflow.load import load


@pytest.fixture(scope="module")
def eager(tiny_bert):
    return load(tiny_bert / "torch")


@pytest.fixture(scope="module")
def program(eager, token_feeds):
    return exported(eager, token_feeds(2, 6, vocabulary=99))


@pytest.fixture(scope="module")
def model(program) -> TorchExportModel:
    return TorchExportModel.from_program(program, where="bert")


def test_the_exported_program_takes_other_sizes_and_computes_the_same(eager, model, token_feeds):
    feeds = token_feeds(5, 11, vocabulary=99)
    assert np.array_equal(model(feeds)["last_hidden_state"], eager(feeds)["last_hidden_state"])


def test_operators_are_taps_with_scope_and_target(eager, model, token_feeds):
    feeds = token_feeds(3, 7, vocabulary=99)
    taps = list(model.trace(feeds))
    norms = [tap for tap in taps if tap.operator == "aten.layer_norm.default"]
    modules = {tap.scope: tap.value for tap in eager.trace(feeds) if tap.operator == "LayerNorm"}
    assert {tap.scope for tap in norms} == set(modules)
    for tap in norms:
        assert np.array_equal(tap.value, modules[tap.scope])
    assert [tap.order for tap in taps] == list(range(len(taps)))


def test_segments_reproduce_the_taps_they_were_cut_at_exactly(model, token_feeds):
    feeds = token_feeds(3, 7, vocabulary=99)
    taps = {tap.name: tap for tap in model.trace(feeds)}
    norms = [name for name, tap in taps.items() if tap.operator == "aten.layer_norm.default"]
    segment = model.segment([norms[1]], [norms[2]])
    found = segment({norms[1]: taps[norms[1]].value})
    assert np.array_equal(found[norms[2]], taps[norms[2]].value)
    with pytest.raises(Unsupported, match="not among the inputs"):
        model.segment([norms[1]], [norms[-1]])
    with pytest.raises(Unsupported, match="no such tap"):
        model.segment(["nope"], [norms[0]])


def test_cast_leaves_no_float32_island(token_feeds):
    class Islands(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(4, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            mask = torch.full((1, 4), -1.0, dtype=torch.float32)
            return self.layer(x.to(torch.float32)).float() + mask

    from regraft.package.formats import Port
    from regraft.runtime.torch_module import TorchModel

    feeds = {"x": np.random.default_rng(0).standard_normal((3, 4)).astype("float32")}
    eager = TorchModel(Islands(), inputs=[Port("x", "float32", ("batch", 4))])
    exact = TorchExportModel.from_program(exported(eager, feeds)).cast("float64")
    wide = {"x": feeds["x"].astype("float64")}
    assert {str(tap.value.dtype) for tap in exact.trace(wide)} == {"float64"}
    assert np.abs(exact(wide)["output_0"] - eager(feeds)["output_0"]).max() < 1e-6  # float32 rounding of four terms


def test_reduced_traces_hold_no_tensors(model, token_feeds, statistics):
    taps = list(model.trace(token_feeds(2, 5, vocabulary=99), reduce=statistics))
    assert taps
    assert all(tap.value is None and tap.kept is not None for tap in taps)


def test_a_saved_program_loads_after_a_scan(program, model, tmp_path, token_feeds):
    torch.export.save(program, tmp_path / "model.pt2")
    feeds = token_feeds(2, 9, vocabulary=99)
    loaded = load(tmp_path / "model.pt2")
    assert np.array_equal(loaded(feeds)["last_hidden_state"], model(feeds)["last_hidden_state"])
    content = (tmp_path / "model.pt2").read_bytes()
    (tmp_path / "model.pt2").write_bytes(content[: len(content) // 2])
    with pytest.raises(RegraftError):
        load(tmp_path / "model.pt2")


class Sum(torch.nn.Module):
    def forward(
        self, xs: list[torch.Tensor], y: torch.Tensor, z: torch.Tensor | None = None
    ) -> dict[str, torch.Tensor]:
        return {"sum": xs[0] + 2 * xs[1] + (3 * y if z is None else 4 * y + 5 * z)}


@pytest.mark.parametrize(
    ("args", "kwargs", "names", "weights"),
    [
        ("xs y", "", ["xs_0", "xs_1", "y"], [1, 2, 3]),
        ("xs y none", "", ["xs_0", "xs_1", "y"], [1, 2, 3]),
        ("xs", "z y", ["xs_0", "xs_1", "z", "y"], [1, 2, 5, 4]),
        ("", "z xs y", ["z", "xs_0", "xs_1", "y"], [5, 1, 2, 4]),
    ],
)
def test_programs_take_their_inputs_in_order_or_by_name(tmp_path, args, kwargs, names, weights):
    given = {"xs": [torch.ones(2), torch.ones(2)], "y": torch.ones(2), "z": torch.ones(2), "none": None}
    program = torch.export.export(
        Sum(), tuple(given[name] for name in args.split()), {name: given[name] for name in kwargs.split()}
    )
    torch.export.save(program, tmp_path / "model.pt2")
    model = load(tmp_path / "model.pt2")
    assert [port.name for port in model.signature.inputs] == names
    feeds = {name: np.full(2, 10**i, dtype=np.float32) for i, name in enumerate(names)}
    expected = sum(weight * feeds[name] for name, weight in zip(names, weights, strict=True))
    assert np.array_equal(model(feeds)["sum"], expected)
    *_, last = model.trace(feeds)
    assert np.array_equal(last.value, expected)
    again = TorchExportModel.from_program(exported(model, feeds))
    assert np.array_equal(again(feeds)["sum"], expected)


def test_a_program_whose_graph_cannot_be_compiled_is_damaged(tmp_path):
    torch.export.save(torch.export.export(torch.nn.ReLU(), (torch.ones(2),)), tmp_path / "whole.pt2")
    with zipfile.ZipFile(tmp_path / "whole.pt2") as whole, zipfile.ZipFile(tmp_path / "model.pt2", "w") as changed:
        for member in whole.infolist():
            content = whole.read(member)
            if member.filename.endswith("models/model.json"):
                content = content.replace(b'"input"', b'"in put"')
            changed.writestr(member.filename, content)
    with pytest.raises(Damaged, match="cannot load the program"):
        load(tmp_path / "model.pt2")


@pytest.mark.parametrize(
    "expression",
    [
        "exit()",
        "__import__('os')",
        "().__class__",
        "Symbol('s1').x",
        "Max(2, exec(chr(105)))",
        "'a'",
        "[1]",
        "lambda: 1",
    ],
)
def test_an_expression_that_is_more_than_arithmetic_is_refused(expression):
    with pytest.raises(PermitRefused, match="more than arithmetic"):
        _check_expressions({"range": [{"expr_str": expression}]}, "m.pt2")


@pytest.mark.parametrize(
    "expression",
    [
        "s0",
        "2*s0 + 1",
        "1.5*s0",
        "Max(1, s0 // 2)",
        "Mul(Integer(384), Symbol('s41', positive=True, integer=True))",
        "CeilToInt(FloatTrueDiv(ToFloat(Symbol('s5', integer=True)), Float('-1.5e-3', precision=53)))",
    ],
)
def test_arithmetic_over_sizes_passes(expression):
    _check_expressions({"expr_str": expression}, "m.pt2")
