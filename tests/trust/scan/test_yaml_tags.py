from __future__ import annotations

import pytest

from regraft.record.evidence import Verdict


@pytest.mark.parametrize(
    "text",
    [
        'a: !!python/object/apply:os.system ["x"]\n',
        "a: !<tag:yaml.org,2002:python/object/new:subprocess.Popen> [x]\n",
        'lr: 1\na: !apply:os.system ["x"]\n',
        "a: [1, !new:builtins.eval {source: x}]\n",
        "a: !name:os.system\n",
        "%TAG !p! tag:yaml.org,2002:python/object/apply:\n---\na: !p!os.system [x]\n",
        "a: !!python/object/apply:os%2Esystem [x]\n",
    ],
)
def test_a_tag_that_calls_something_dangerous_fails(scan_files, text):
    evidence = scan_files({"hyperparams.yaml": text})
    assert evidence.verdict is Verdict.FAIL
    assert evidence.findings[0].rule == "RGS-YML-001"


@pytest.mark.parametrize(
    "text",
    [
        "a: !!python/object/apply:strange.thing [x]\n",
        "a: !new:strange.Thing\n",
        "a: !!python/name:mymodule.x\n",
        "%TAG !p! tag:yaml.org,2002:python/object/apply:\n---\na: !p!strange.thing [x]\n",
    ],
)
def test_a_tag_that_nobody_knows_is_inconclusive(scan_files, text):
    evidence = scan_files({"config.yml": text})
    assert evidence.verdict is Verdict.INCONCLUSIVE
    assert "RGS-YML-002" in {finding.rule for finding in evidence.findings}


def test_an_ordinary_recipe_passes(scan_files):
    text = (
        "# !apply:os.system\nseed: !ref <x>  # or !new:os.system\n__set_seed: !apply:torch.manual_seed [1]\n"
        "model: !new:speechbrain.lobes.models.ECAPA_TDNN.ECAPA_TDNN\n  n: 80\nact: !name:torch.nn.LeakyReLU\n"
        "doc: the tag is written !!python/\n"
    )
    assert scan_files({"hyperparams.yaml": text}).verdict is Verdict.PASS
