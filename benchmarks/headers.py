"""`inspect` of 1 GiB files. Promise: < 1 MB read and < 50 ms CPU beyond start-up, for safetensors and torch zip."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.peers import OURS
from benchmarks.timing import interleaved, table


def main() -> str:
    parts = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for kind, make in (("safetensors", write_safetensors), ("torch zip", write_torch_zip)):
            suffix = ".safetensors" if kind == "safetensors" else ".pt"
            large, small = folder / f"large{suffix}", folder / f"small{suffix}"
            make(large, 256)
            make(small, 1)
            store = ["--store", str(folder / "store")]
            timings = interleaved(
                {
                    f"1 GiB {kind}": [OURS, "inspect", str(large), *store],
                    f"4 MiB {kind}": [OURS, "inspect", str(small), *store],
                }
            )
            beyond = (timings[f"1 GiB {kind}"].cpu - timings[f"4 MiB {kind}"].cpu) * 1000
            parts += [
                f"### inspect, {kind}, {large.stat().st_size / 2**30:.2f} GiB in 256 tensors",
                table(timings, ours=f"1 GiB {kind}"),
                f"Read: **{_bytes_read(large, store):,} bytes** (promise < 1,000,000).",
                f"CPU beyond the small file: **{beyond:.0f} ms** (promise < 50).",
            ]
    return "\n\n".join(parts)


def _bytes_read(path: Path, store: list[str]) -> int:
    out = subprocess.run([OURS, "inspect", str(path), "--json", *store], capture_output=True, check=True).stdout
    return next(m["value"] for m in json.loads(out)["measurements"] if m["name"] == "bytes_read")


def write_safetensors(path: Path, count: int) -> None:
    size = 4 << 20
    header = {
        f"layer.{i}.weight": {"dtype": "F32", "shape": [1024, 1024], "data_offsets": [i * size, (i + 1) * size]}
        for i in range(count)
    }
    text = json.dumps(header).encode()
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + count * size)


def write_torch_zip(path: Path, count: int) -> None:
    """In a process of its own: the memory that torch takes here would be counted as that of our children."""
    code = (
        "import sys, torch\n"
        "weights = {f'layer.{i}.weight': torch.zeros(1024, 1024) for i in range(int(sys.argv[2]))}\n"
        "torch.save(weights, sys.argv[1])"
    )
    subprocess.run([sys.executable, "-c", code, path, str(count)], check=True)


if __name__ == "__main__":
    print(main())
