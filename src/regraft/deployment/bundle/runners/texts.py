"""Texts in, one JSON line a text out: python texts.py "a text" "another one". It needs tokenizers, beside run.py."""

import json
import sys

import numpy as np
import run

TOLD = run.SETTINGS["text"]


def feeds_of(texts):
    """What the model takes, and the mask: (B, T), padded on the right."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(run.HERE / TOLD["tokenizer"]))
    tokenizer.no_padding()
    tokenizer.enable_truncation(TOLD["max_tokens"])
    given = [text.lower() for text in texts] if TOLD["lowercase"] else list(texts)
    rows = tokenizer.encode_batch_fast(given, add_special_tokens=TOLD["special_tokens"])
    width = max(1, *(len(row.ids) for row in rows))
    ids = np.full((len(rows), width), TOLD["pad_id"], dtype=np.int64)
    mask, types = np.zeros_like(ids), np.zeros_like(ids)
    for i, row in enumerate(rows):
        ids[i, : len(row.ids)], mask[i, : len(row.ids)], types[i, : len(row.ids)] = row.ids, 1, row.type_ids
    arrays = {"input_ids": ids, "attention_mask": mask, "token_type_ids": types}
    return {name: arrays[name].astype(dtype) for name, dtype in TOLD["feeds"].items()}, mask


def vectors(outputs, mask):
    """One vector a text, (B, D): pooled under the mask, and of length 1 where the package says so."""
    pooled = outputs.get("sentence_embedding")
    if pooled is None:
        hidden = outputs[TOLD["hidden"]]  # (B, T, D)
        weights = mask.astype(hidden.dtype)
        total, count = (weights[:, None, :] @ hidden)[:, 0], np.maximum(weights.sum(axis=1, keepdims=True), 1e-9)
        ways = {
            "cls": lambda: hidden[:, 0],
            "max": lambda: np.where(weights[:, :, None] > 0, hidden, -np.inf).max(axis=1),
            "mean": lambda: total / count,
            "mean_sqrt": lambda: total / np.sqrt(count),
        }
        pooled = np.concatenate([ways[mode]() for mode in TOLD["pooling"]], axis=1)
    if TOLD["normalise"]:
        pooled = pooled / np.maximum(np.linalg.norm(pooled, axis=1, keepdims=True), 1e-12)
    return pooled.astype(np.float32)


def answers(model, texts):
    """One dictionary a text: `label` and `logits` of a classifier, else `vector`."""
    feeds, mask = feeds_of(texts)
    outputs = model(feeds)
    if "logits" not in outputs:
        return [{"vector": row.tolist()} for row in vectors(outputs, mask)]
    names = TOLD["labels"]
    return [
        {"label": names[row.argmax()] if names else int(row.argmax()), "logits": row.tolist()}
        for row in outputs["logits"]
    ]


if __name__ == "__main__":
    if not sys.argv[1:]:
        raise SystemExit(__doc__)
    for answer in answers(run.load(), sys.argv[1:]):
        print(json.dumps(answer, ensure_ascii=False))
