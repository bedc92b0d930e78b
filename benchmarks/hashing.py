"""Manifest of 2 GiB against the read floor, `sha256sum` and bare hashlib. Promise: ≤ 1.15 × parallel sha256."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

from benchmarks.timing import interleaved, table

_READ = (
    "import sys,os\nfor p in sys.argv[1:]:\n f=open(p,'rb',buffering=0); b=bytearray(1<<20)\n while f.readinto(b): pass"
)
_HASHLIB = """
import sys, os, hashlib
from concurrent.futures import ThreadPoolExecutor
def one(p):
    with open(p, 'rb', buffering=0) as f: return hashlib.file_digest(f, 'sha256').hexdigest()
with ThreadPoolExecutor(os.cpu_count()) as pool: list(pool.map(one, sys.argv[1:]))
"""
_OURS = (
    "import sys\nfrom regraft.package.package import open_package\nprint(open_package(sys.argv[1]).manifest().digest)"
)


def main() -> str:
    with tempfile.TemporaryDirectory() as folder:
        files = _write(Path(folder))
        python = sys.executable
        timings = interleaved(
            {
                "regraft manifest": [python, "-c", _OURS, folder],
                "hashlib, a thread a core": [python, "-c", _HASHLIB, *files],
                f"xargs -P{os.cpu_count()} sha256sum": [
                    "sh",
                    "-c",
                    f"printf '%s\\n' {folder}/* | xargs -P{os.cpu_count()} -n1 sha256sum",
                ],
                "read only (floor)": [python, "-c", _READ, *files],
            },
            rounds=5,
        )
    walls = {name: t.wall for name, t in timings.items()}
    ratio = walls["regraft manifest"] / walls["hashlib, a thread a core"]
    return (
        "### Manifest of 2 GiB (one file of 1 GiB, eight of 128 MiB, in the page cache)\n\n"
        + table(timings, ours="regraft manifest", unit_ms=False)
        + f"\n\nWall time, ours / parallel hashlib: **{ratio:.2f}** (promise ≤ 1.15)"
    )


def _write(folder: Path) -> list[str]:
    block = os.urandom(1 << 20)
    for name, mebibytes in [("large", 1024), *((f"part{i}", 128) for i in range(8))]:
        with (folder / name).open("wb") as file:
            for _ in range(mebibytes):
                file.write(block)
    return [str(path) for path in sorted(folder.iterdir())]


if __name__ == "__main__":
    print(main())
