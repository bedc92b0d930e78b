"""Look for input that a parser cannot get through. usage: fuzz.py [--seconds N] [--seed N] [--corpus DIR] [FILE…]

Guided by coverage where atheris is installed (it is in the group of tests), by chance otherwise. It starts from the
corpus of samples and from tests/trust/fuzz_corpus.zip. A fault is written to DIR with its traceback, as are inputs
that reach new code; `--keep` puts the small ones of these into the zip. With files, only they are tried.
"""

from __future__ import annotations

import argparse
import hashlib
import random
import sys
import time
import traceback
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
KEPT = ROOT / "tests/trust/fuzz_corpus.zip"
_MAX_KEPT_INPUT = 4096
_MAX_KEPT = 1 << 20
sys.path.insert(0, str(ROOT))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0, help="0: another search each time")
    parser.add_argument("--corpus", type=Path, default=ROOT / ".cache/fuzz")
    parser.add_argument("--keep", action="store_true", help="put what an earlier run found in DIR into the zip")
    parser.add_argument("files", type=Path, nargs="*")
    chosen = parser.parse_args()
    chosen.corpus.mkdir(parents=True, exist_ok=True)
    if chosen.files:
        for path in chosen.files:
            _split(path.read_bytes())
        return 0
    if chosen.keep:
        return _keep(chosen.corpus)
    try:
        import atheris
    except ImportError:
        return _by_chance(chosen.corpus, chosen.seconds, chosen.seed or random.SystemRandom().randrange(1 << 32))
    with atheris.instrument_imports(include=["regraft"]):
        from regraft.package.formats import formats
        from regraft.trust.scan import families

        formats()  # both import their members when they are asked for them
        families()
    for data in (*_seeds(), *_kept().values()):
        (chosen.corpus / _name(data)).write_bytes(data)
    limits = [f"-seed={chosen.seed}", f"-max_total_time={chosen.seconds}"]
    limits += ["-max_len=20000", "-rss_limit_mb=3000", "-timeout=60"]
    atheris.Setup([sys.argv[0], str(chosen.corpus), f"-artifact_prefix={chosen.corpus}/", *limits], _split)
    atheris.Fuzz()
    return 0


def _split(data: bytes) -> None:
    """The first byte chooses the name."""
    from tests.trust.fuzzing import NAMES, judge

    if data:
        judge(bytes(data[1:]), NAMES[data[0] % len(NAMES)])


def _seeds() -> Iterator[bytes]:
    from tests.trust.fuzzing import NAMES, seeds

    for name, content in seeds():
        number = NAMES.index(name) if name in NAMES else zlib.crc32(name.encode()) % len(NAMES)
        yield bytes([number]) + content


def _kept() -> dict[str, bytes]:
    if not KEPT.exists():
        return {}
    with zipfile.ZipFile(KEPT) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def _keep(folder: Path) -> int:
    """Put what is new and small into the zip, the smallest first; same content, same bytes of the zip."""
    old = {_name(data) for data in _seeds()}
    found = _kept() | {
        _name(data): data
        for path in folder.iterdir()
        if path.is_file() and len(data := path.read_bytes()) <= _MAX_KEPT_INPUT and _name(data) not in old
    }
    by_size = sorted(found.items(), key=lambda item: (len(item[1]), item[0]))
    left = _MAX_KEPT
    with zipfile.ZipFile(KEPT, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in by_size:
            left -= len(data)
            if left >= 0:
                archive.writestr(zipfile.ZipInfo(name), data, zipfile.ZIP_DEFLATED)
    print(f"{len(found)} inputs, {KEPT.stat().st_size} bytes")
    return 0


def _name(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]


def _by_chance(folder: Path, seconds: int, seed: int) -> int:
    from tests.trust.fuzzing import NAMES, damaged, judge, seeds

    everything = list(seeds())
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
