"""Start-up: `--version` and `--help` against the peers. Promise: ≤ 40 ms and ≤ 100 ms CPU."""

from __future__ import annotations

from benchmarks.peers import OURS, program
from benchmarks.timing import interleaved, table


def main() -> str:
    peers = ("picklescan", "modelscan", "polygraphy")
    version = interleaved(
        {"regraft --version": [OURS, "--version"], "polygraphy --version": [program("polygraphy"), "--version"]},
        rounds=15,
    )
    helps = interleaved(
        {"regraft --help": [OURS, "--help"], **{f"{name} --help": [program(name), "--help"] for name in peers}},
        rounds=15,
    )
    return "\n\n".join(
        ["### --version", table(version, ours="regraft --version"), "### --help", table(helps, ours="regraft --help")]
    )


if __name__ == "__main__":
    print(main())
