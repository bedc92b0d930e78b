"""ExecuTorch programs in the environment `mobile`: what a program says of itself, strangers' programs, damage."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest

from regraft.errors import Crashed, Damaged, MissingEnvironment, Unsupported
from regraft.package.package import open_package
from regraft.runtime import load

pytestmark = pytest.mark.timeout(900)  # ExecuTorch takes seconds of CPU to import, and machines are busy

STRANGER = """
import sys, torch
from executorch.exir import to_edge_transform_and_lower

class Halved(torch.nn.Module):
    def forward(self, x, y):
        return x / 2, y + 1

program = torch.export.export(Halved(), (torch.zeros(2, 3), torch.zeros(4, dtype=torch.int64)))
with open(sys.argv[1], "wb") as file:
    to_edge_transform_and_lower(program).to_executorch().write_to_file(file)
"""


def test_without_its_environment_the_command_is_named(tmp_path: Path) -> None:
    (tmp_path / "model.pte").write_bytes(b"\x08\0\0\0ET12" + bytes(24))
    with open_package(tmp_path / "model.pte") as package, pytest.raises(MissingEnvironment) as raised:
        load(package)
    assert raised.value.hint == "regraft doctor --environment mobile"


def test_a_strangers_program_has_numbered_ends_and_damage_is_told(large_environment, tmp_path: Path) -> None:
    path = tmp_path / "model.pte"
    subprocess.run([large_environment("mobile"), "-c", STRANGER, path], check=True, capture_output=True)
    with open_package(path) as package:
        model = load(package)
    assert [(port.name, port.dtype, port.shape) for port in model.signature.inputs] == [
        ("input_0", "float32", (2, 3)),
        ("input_1", "int64", (4,)),
    ]
    x = np.random.default_rng(0).normal(size=(2, 3)).astype(np.float32)
    told = model({"input_0": x, "input_1": np.arange(4)})
    np.testing.assert_array_equal(told["output_0"], x / 2)
    np.testing.assert_array_equal(told["output_1"], np.arange(4) + 1)
    with pytest.raises(Unsupported, match="shows no operators"):
        list(model.trace({"input_0": x, "input_1": np.arange(4)}))
    model.close()
    path.write_bytes(path.read_bytes()[:300])
    with open_package(path) as package, pytest.raises((Damaged, Unsupported, Crashed)):
        load(package)
