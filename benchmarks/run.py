"""Run the benchmarks, all or by name, and print the sections of RESULTS.md. usage: run.py [NAME…]"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

ALL = ("startup", "hashing", "headers", "engine", "features", "scanning", "converting", "latency")

if __name__ == "__main__":
    from benchmarks.timing import machine

    print(f"Machine: {machine()}\n")
    for name in sys.argv[1:] or ALL:
        print(f"## {name}\n\nCommand: `python benchmarks/run.py {name}`\n", flush=True)
        print(importlib.import_module(f"benchmarks.{name}").main() + "\n", flush=True)
