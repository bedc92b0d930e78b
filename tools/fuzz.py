"""Look for input that a parser or rule family cannot get through. usage: fuzz.py [--seconds N] [--corpus DIR] [FILE…]

Guided by coverage where atheris is installed (`pip install atheris`), by chance otherwise. What is found is written to
DIR/faults with its traceback; DIR also keeps inputs that reached new code, and the next run starts from them. With
files, only they are tried.
"""

from __future__ import annotations

import argparse
import hashlib
import random
import sys
import time
import traceback
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--corpus", type=Path, default=ROOT / ".cache/fuzz")
    parser.add_argument("files", type=Path, nargs="*")
    chosen = parser.parse_args()
    chosen.corpus.mkdir(parents=True, exist_ok=True)
    if chosen.files:
        for path in chosen.files:
            _split(path.read_bytes())
        return 0
    try:
        import atheris
    except ImportError:
        return _by_chance(chosen.corpus, chosen.seconds)
    with atheris.instrument_imports(include=["regraft"]):
        from regraft.package.formats import formats
        from regraft.trust.scan import families

        formats()  # both import their members when they are asked for them
        families()
    _write_seeds(chosen.corpus)
    atheris.Setup(
        [sys.argv[0], str(chosen.corpus), f"-max_total_time={chosen.seconds}", "-max_len=20000", "-rss_limit_mb=3000"],
        _split,
    )
    atheris.Fuzz()
    return 0


def _split(data: bytes) -> None:
    """The first byte chooses the name."""
    from tests.trust.fuzzing import NAMES, judge

    if data:
        judge(bytes(data[1:]), NAMES[data[0] % len(NAMES)])


def _write_seeds(folder: Path) -> None:
    from tests.trust.fuzzing import NAMES, seeds

    for name, content in seeds():
        number = NAMES.index(name) if name in NAMES else hash(name) % len(NAMES)
        data = bytes([number]) + content
        (folder / hashlib.sha256(data).hexdigest()[:16]).write_bytes(data)


def _by_chance(folder: Path, seconds: int) -> int:
    from tests.trust.fuzzing import NAMES, damaged, judge, seeds

    everything = list(seeds())
    seed = random.SystemRandom().randrange(1 << 32)
    rng, deadline, tried, faults = random.Random(seed), time.monotonic() + seconds, 0, 0
    while time.monotonic() < deadline:
        name, content = rng.choice(everything)
        data, name = damaged(content, rng), name if rng.random() < 0.6 else rng.choice(NAMES)
        tried += 1
        try:
            judge(data, name)
        except Exception:
            faults += 1
            place = folder / "faults" / f"{hashlib.sha256(data).hexdigest()[:12]}-{name}"
            place.parent.mkdir(exist_ok=True)
            place.write_bytes(data)
            place.with_name(place.name + ".txt").write_text(traceback.format_exc())
            print(f"{place}: {traceback.format_exc().splitlines()[-1]}")
    print(f"{tried} inputs, {faults} faults, seed {seed}")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
