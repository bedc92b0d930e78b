"""Nothing that scan refuses is loaded: the attacks of the corpus that are files of a runtime's formats."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

import pytest
from tests.trust.corpus import samples

from regraft.errors import Damaged, NotFound, PermitRefused, RegraftError, Unsupported
from regraft.workflow.load import load

ATTACKS = [s for s in samples("torch_files", "graph_files", "keras_files") if s.kind == "malicious"]


def test_attacks_are_refused_before_anything_is_opened(tmp_path):
    refusals: dict[type[RegraftError], int] = {}
    for number, sample in enumerate(ATTACKS):
        with pytest.raises((PermitRefused, Damaged, Unsupported, NotFound)) as refused:
            load(sample.write(tmp_path / str(number)))
        refusals[refused.type] = refusals.get(refused.type, 0) + 1
    assert refusals[PermitRefused] > 30  # the others are no models for any runtime that is here
