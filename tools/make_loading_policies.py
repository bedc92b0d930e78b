"""Regenerate src/regraft/package/formats/loading_policies.json from the files of real packages; nothing is unpickled.

usage: make_loading_policies.py ASSETS. A library is listed here when somebody has read the classes that its pickles
name: they hold settings and modules of networks, and none of them is needed to get at the tensors.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from regraft.package.formats.pickle_machine import read_pickle
from regraft.package.formats.torch_zip import root_of
from regraft.package.formats.unpickle import PLAIN
from regraft.package.package import open_package

LIBRARIES = {
    "BeatNet": "pypi-BeatNet-1.1.3",
    "chemprop": "pypi-admet-ai-2.0.1",
    "pesto": "pypi-pesto-pitch-2.0.1",
    "pyannote.audio": "pypi-whisperx-3.8.6",
    "sevenn": "pypi-sevenn-0.13.0",
}
OUT = Path(__file__).parent.parent / "src/regraft/package/formats/loading_policies.json"


def main(assets: Path) -> None:
    policies = {}
    for library, folder in LIBRARIES.items():
        name, _, version = folder.removeprefix("pypi-").rpartition("-")
        policies[library] = {"seen_in": f"{name} {version}", "names": sorted(_names(assets / folder) - PLAIN)}
    OUT.write_text(json.dumps(policies, indent=1) + "\n")


def _names(folder: Path) -> set[str]:
    names: set[str] = set()
    with open_package(folder) as package:
        for entry in package.entries:
            probe, kind = package.probe(entry.path)
            if kind is None or kind.name != "torch-zip" or (found := root_of(probe)) is None:
                continue
            archive, root = found
            stream = read_pickle(archive.open(archive.by_name[root + "data.pkl"]))
            names |= {name.path for name in stream.globals}
    return names


if __name__ == "__main__":
    main(Path(sys.argv[1]))
