"""From claims to facts: one row a field, who says it, and where two sources contradict each other."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import msgspec

from regraft.record.evidence import JSON
from regraft.workflow.facts.interface import Claim, Origin
from regraft.workflow.facts.licence import is_same_licence
from regraft.workflow.facts.plain import plain


class Field(msgspec.Struct, frozen=True):
    """One thing that a person asks of a model.

    Attributes:
        could_say: who could have said it, for the row of an unknown field.
        is_compared: whether two sources that say different things contradict each other.
        is_expected: whether an unknown value is worth a row.
    """

    name: str
    could_say: str
    is_compared: bool = False
    is_expected: bool = True


FIELDS: tuple[Field, ...] = (
    Field("summary", "METADATA or package.json", is_expected=False),
    Field("architecture", "config.json, GGUF or Keras header"),
    Field("model_type", "config.json (model_type)", is_compared=True, is_expected=False),
    Field("model_name", "GGUF or graph header", is_expected=False),
    Field("task", "card, config.json"),
    Field("pipeline", "modules.json", is_expected=False),
    Field("parameters", "header"),
    Field("dtype", "header, config.json", is_compared=True),
    Field("framework", "header, config.json, card"),
    Field("libraries", "METADATA (Requires-Dist), package.json (dependencies)", is_expected=False),
    Field("producer", "graph header, config files"),
    Field("inputs", "graph header"),
    Field("outputs", "graph header"),
    Field("operators", "graph header", is_expected=False),
    Field("opsets", "ONNX header", is_expected=False),
    Field("layers", "config.json (num_hidden_layers)", is_expected=False),
    Field("hidden_size", "config.json (hidden_size)", is_expected=False),
    Field("context_length", "config.json (max_position_embeddings), GGUF header", is_compared=True, is_expected=False),
    Field("truncation_length", "tokenizer_config.json, sentence_bert_config.json", is_expected=False),
    Field("vocabulary", "embedding table, config.json (vocab_size)", is_compared=True, is_expected=False),
    Field("vocabulary_tokens", "tokenizer.json, vocab.txt, GGUF header", is_expected=False),
    Field("tokenizer", "tokenizer_config.json, GGUF header", is_expected=False),
    Field("tokenizer_algorithm", "tokenizer.json", is_expected=False),
    Field("chat_template", "GGUF header", is_expected=False),
    Field("preprocessing", "preprocessor_config.json, regraft.json"),
    Field("labels", "config.json (id2label), regraft.json, label file", is_expected=False),
    Field("custom_code", "config.json (auto_map)", is_expected=False),
    Field("licence", "card, METADATA, LICENSE text", is_compared=True),
    Field("licences_inside", "licence texts of parts", is_expected=False),
    Field("base_model", "card, config.json"),
    Field("language", "card, METADATA classifiers", is_expected=False),
    Field("datasets", "card"),
    Field("claimed_metrics", "card (model-index)"),
)
_BY_NAME = {field.name: field for field in FIELDS}
_GRAPHS = frozenset({"inputs", "outputs", "operators", "opsets"})
_LISTED = _GRAPHS | frozenset({"datasets", "language", "labels", "libraries", "custom_code"})


class Fact(msgspec.Struct, frozen=True):
    """What is known of one field, and who says it.

    Attributes:
        value: of the most trustworthy source; None when nobody says.
        text: the value for a human; where sources disagree, all of them.
        provenance: every claim about the field, the most trustworthy first.
        of: name of the model that it is about; None for the package.
    """

    field: str
    value: JSON
    text: str
    provenance: tuple[Claim, ...] = ()
    could_say: str = ""
    of: str | None = None

    @property
    def is_known(self) -> bool:
        """Whether anybody says anything."""
        return bool(self.provenance)


class Contradiction(msgspec.Struct, frozen=True):
    """Claims about one thing that cannot all be true."""

    kind: str
    message: str
    claims: tuple[Claim, ...]
    of: str | None = None


def settle(claims: Iterable[Claim], *, of: str | None = None) -> tuple[list[Fact], list[Contradiction]]:
    """One fact for each field that was claimed, in the order of FIELDS, and the disagreements among sources.

    A field that nobody claims is left out: `unknown_facts` makes the rows for those.
    """
    by_field: dict[str, list[Claim]] = {}
    for claim in claims:
        by_field.setdefault(claim.field, []).append(msgspec.structs.replace(claim, value=plain(claim.value)))
    facts, contradictions = [], []
    for field in FIELDS:
        said = sorted(by_field.get(field.name, []), key=lambda c: _RANK[c.origin])
        if not said:
            continue
        distinct = _distinct(field.name, said)
        disagree = field.is_compared and len(distinct) > 1
        if disagree:
            contradictions.append(_disagreement(field, said, of))
        shown = " ≠ ".join(value_text(field.name, c.value) for c in distinct) if disagree else _text(field.name, said)
        facts.append(Fact(field.name, said[0].value, shown, tuple(said), field.could_say, of))
    return facts, contradictions


def unknown_facts(known: Iterable[str]) -> list[Fact]:
    """A row for each expected field that nobody said anything about, with who could have."""
    names = set(known)
    return [
        Fact(field.name, None, "unknown", (), field.could_say)
        for field in FIELDS
        if field.is_expected and field.name not in names
    ]


def could_say(name: str) -> str:
    """Who could have said a field."""
    return _BY_NAME[name].could_say


def value_text(field: str, value: JSON) -> str:
    """A value as one line for a human."""
    if field == "operators" and isinstance(value, dict):
        shown = [f"{name} ×{count}" for name, count in list(value.items())[:8]]
        return ", ".join(shown) + (f" and {len(value) - 8} more" if len(value) > 8 else "")
    if field == "opsets" and isinstance(value, dict):
        return ", ".join(f"{domain or 'ai.onnx'} {version}" for domain, version in value.items())
    if field == "claimed_metrics" and isinstance(value, list):
        return _metrics_text(value)
    if isinstance(value, list):
        return ", ".join(map(str, value[:8])) + (f" and {len(value) - 8} more" if len(value) > 8 else "")
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return str(value)


def _text(field: str, said: Sequence[Claim]) -> str:
    if field == "parameters":
        return value_text(field, said[0].value)
    values = list(dict.fromkeys(value_text(field, claim.value) for claim in said))
    if field in _LISTED or len(values) == 1:
        others = len(values) - 1
        differ = "another file differs" if others == 1 else f"{others} other files differ"
        return values[0] + (f" ({differ})" if field in _GRAPHS and others else "")
    return "; ".join(values[:3]) + (f"; {len(values) - 3} more" if len(values) > 3 else "")


def _distinct(field: str, said: Sequence[Claim]) -> list[Claim]:
    """One claim for each value that really differs. Different headers may differ: that is another format, no lie."""
    same = _SAME.get(field, _is_equal)
    distinct: list[Claim] = []
    for claim in said:
        if claim.origin is Origin.HEADER and distinct and distinct[0].origin is Origin.HEADER:
            continue
        if not any(same(claim.value, other.value) for other in distinct):
            distinct.append(claim)
    return distinct


def _disagreement(field: Field, said: Sequence[Claim], of: str | None) -> Contradiction:
    distinct = _distinct(field.name, said)
    parts = [f"{value_text(field.name, c.value)} ({c.origin.value}, {place(c)})" for c in distinct[:4]]
    return Contradiction(field.name, f"{field.name}: " + " ≠ ".join(parts), tuple(said), of)


def place(claim: Claim) -> str:
    """File and field of a claim."""
    file = claim.file.rsplit("/", 1)[-1]
    return f"{file}: {claim.key}" if claim.key and claim.key != "format" else file


def _metrics_text(metrics: Sequence[JSON]) -> str:
    shown = []
    for metric in metrics[:3]:
        if isinstance(metric, dict):
            on = f" on {metric['dataset']}" if metric.get("dataset") else ""
            shown.append(f"{metric.get('metric')} {metric.get('value')}{on}")
    return ", ".join(shown) + (f" and {len(metrics) - 3} more" if len(metrics) > 3 else "")


def _is_equal(one: JSON, other: JSON) -> bool:
    return one == other


def _is_same_text(one: JSON, other: JSON) -> bool:
    return str(one).lower() == str(other).lower()


_RANK = {origin: rank for rank, origin in enumerate(Origin)}
_SAME: dict[str, Callable[[JSON, JSON], bool]] = {
    "licence": lambda a, b: is_same_licence(str(a), str(b)),
    "model_type": _is_same_text,
    "dtype": _is_same_text,
}
