"""Fetch the real packages that tests look at, and unpack them. usage: fetch_assets.py [--store DIR] TARGET

Eats the project's own food: references, archive reading and digest checks are Regraft's; nothing is
installed or built. Idempotent: what is there is left alone.
"""

from __future__ import annotations

import argparse
import json
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from regraft.errors import RegraftError
from regraft.package.fetch import fetch
from regraft.package.package import open_package
from regraft.package.reference import parse_reference
from regraft.package.sources.interface import SourceOptions
from regraft.record.store import Store, open_store

LIST = Path(__file__).parent.parent / "tests/assets.json"
SEPARATOR = {"pypi": "==", "npm": "@"}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--store", type=Path)
    parser.add_argument("target", type=Path)
    arguments = parser.parse_args()
    wanted = {(a["registry"], a["package"], a["version"]) for a in json.loads(LIST.read_text())}
    store = open_store(arguments.store)
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda item: _unpack(*item, arguments.target, store), sorted(wanted)))
    failed = [line for line in results if line]
    print(*failed, sep="\n", file=sys.stderr)
    print(f"{len(wanted) - len(failed)} of {len(wanted)} packages are in {arguments.target}")
    return 1 if failed else 0


def _unpack(registry: str, package: str, version: str, target: Path, store: Store) -> str:
    folder = target / f"{registry}-{package}-{version}".replace("/", "_").replace("@", "_")
    done = folder / ".ok"
    if done.exists():
        return ""
    ref = f"{registry}://{package}{SEPARATOR[registry]}{version}"
    try:
        fetch(ref, store=store)
        with open_package(parse_reference(ref), options=SourceOptions(offline=True, store=store)) as opened:
            for entry in opened.entries:
                if entry.obstacle is not None:
                    continue
                path = folder / entry.path
                path.parent.mkdir(parents=True, exist_ok=True)
                with path.open("wb") as file:
                    file.writelines(opened.open(entry.path).chunks())
    except RegraftError as error:
        return f"FAIL {ref}: {error}"
    done.touch()
    print(f"ok   {ref}", flush=True)
    return ""


if __name__ == "__main__":
    sys.exit(main())
