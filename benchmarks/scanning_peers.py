"""Verdicts of the peers on folders, by their own Python interfaces. Run by benchmarks/scanning.py in their environment.

usage: scanning_peers.py PEER… < list of folders; prints one JSON object a line: {"peer", "sample", "verdict", "cpu_s"}.
Each peer scans each folder in a process of its own, forked from one that has imported it, with at most 20 s of CPU.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import logging
import os
import resource
import sys
import zipfile
from pathlib import Path

LIMIT_S = 20
_PICKLES = (".pkl", ".pickle", ".p", ".joblib", ".dill", ".dat", ".data", ".bin", ".pt", ".pth", ".ckpt", ".model")


def by_picklescan(folder: Path) -> str:
    """Dangerous globals fail; suspicious ones, and what could not be read, are inconclusive."""
    from picklescan.scanner import SafetyLevel, scan_directory_path

    result = scan_directory_path(str(folder))
    if result.issues_count:
        return "fail"
    suspicious = any(item.safety is not SafetyLevel.Innocuous for item in result.globals)
    return "inconclusive" if suspicious or result.scan_err else "pass"


def by_modelscan(folder: Path) -> str:
    """An issue of any severity fails; an error is inconclusive; files that it skips pass."""
    from modelscan.modelscan import ModelScan

    result = ModelScan().scan(str(folder))
    if result["summary"]["total_issues"]:
        return "fail"
    return "inconclusive" if result["errors"] else "pass"


def by_fickling(folder: Path) -> str:
    """The worst severity over all files that are pickles, and members of archives that are."""
    verdicts = {_fickling(path) for path in folder.rglob("*") if path.is_file()}
    return "fail" if "fail" in verdicts else "inconclusive" if "inconclusive" in verdicts else "pass"


def _fickling(path: Path) -> str:
    from fickling.analysis import Severity, check_safety
    from fickling.fickle import StackedPickle

    worst = Severity.LIKELY_SAFE
    unreadable = False
    for name, data in _streams(path):
        try:
            for pickled in StackedPickle.load(io.BytesIO(data)):
                worst = max(worst, check_safety(pickled).severity)
        except Exception:  # noqa: BLE001  whatever it stumbles over, it does not know
            unreadable = unreadable or name.endswith(_PICKLES)
    if worst >= Severity.LIKELY_UNSAFE:
        return "fail"
    return "inconclusive" if worst > Severity.LIKELY_SAFE or unreadable else "pass"


def _streams(path: Path) -> list[tuple[str, bytes]]:
    if not zipfile.is_zipfile(path):
        return [(path.name, path.read_bytes())]
    try:
        with zipfile.ZipFile(path) as archive:
            return [(name, archive.read(name)) for name in archive.namelist() if name.endswith(".pkl")]
    except Exception:  # noqa: BLE001  as above
        return [(path.name, b"")]


def by_modelaudit(folder: Path) -> str:
    """Critical issues fail; warnings, and what it could not scan, are inconclusive."""
    from modelaudit.core import scan_model_directory_or_file

    result = scan_model_directory_or_file(str(folder), cache_enabled=False)
    severities = {issue.severity.value for issue in result.issues}
    if "critical" in severities:
        return "fail"
    return "inconclusive" if "warning" in severities or result.has_errors or not result.success else "pass"


PEERS = {
    "picklescan": (by_picklescan, "picklescan.scanner"),
    "modelscan": (by_modelscan, "modelscan.modelscan"),
    "fickling": (by_fickling, "fickling.analysis"),
    "modelaudit": (by_modelaudit, "modelaudit.core"),
}
"""Peer → how it is asked, and the module that is imported before it is forked."""


def main() -> None:
    """Judge every folder by every peer that is named."""
    logging.disable(logging.CRITICAL)
    chosen = {peer: PEERS[peer] for peer in sys.argv[1:]}
    for _, module in chosen.values():
        importlib.import_module(module)
    for folder in map(Path, sys.stdin.read().split("\n")):
        for peer, (judge, _) in chosen.items():
            verdict, cpu_s = _forked(judge, folder)
            print(json.dumps({"peer": peer, "sample": folder.name, "verdict": verdict, "cpu_s": cpu_s}), flush=True)


def _forked(judge: object, folder: Path) -> tuple[str, float]:
    """A peer that hangs, dies or raises says that it does not know."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        resource.setrlimit(resource.RLIMIT_CPU, (LIMIT_S, LIMIT_S))
        resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
        with (
            Path(os.devnull).open("w") as nowhere,
            contextlib.redirect_stdout(nowhere),
            contextlib.redirect_stderr(nowhere),
        ):
            try:
                verdict = judge(folder)  # type: ignore[operator]
            except BaseException:  # noqa: BLE001  the fork must not go on
                verdict = "inconclusive"
            os.write(writer, verdict.encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as answer:
        verdict = answer.read()
    _, _, usage = os.wait4(child, 0)
    return verdict or "inconclusive", usage.ru_utime + usage.ru_stime


if __name__ == "__main__":
    main()
