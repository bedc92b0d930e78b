"""The documents: every command and program in them is run, and every link leads somewhere.

What is run, block by block and in the order of the document, in one empty folder with a store of its own:

- ```console: lines that start with `$ ` (and `> ` that go on with them) are commands. What follows is what they
  print; `…` stands for anything, a line of `…` for any lines. `# exit N` behind a command is its exit status.
- ```bash: run as a whole; must succeed.
- ```python: run as a program; what it prints is compared with the comments that start with `#> `.
- any other block behind `<!-- file: NAME -->` is written to that file first.
- a block behind `<!-- not run: REASON -->` is only shown: it takes minutes, or large downloads.

A document that names a package of a registry needs the network for it.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").rglob("*.md")])
RUN = [path for path in DOCUMENTS if path == ROOT / "README.md" or ROOT / "docs" in path.parents]

_BLOCK = re.compile(
    r"^(?:<!-- (?:file: (?P<file>\S+)|not run: (?P<spared>[^\n]+)) -->\n+)?"
    r"(?P<fence>```+)(?P<kind>\w*)\n(?P<body>.*?)^(?P=fence)$",
    re.M | re.S,
)
_EXIT = re.compile(r"\s+# exit (\d+)$")
_REGISTRY = re.compile(r"\b(pypi|npm)://")
_RUNNABLE = ("console", "bash", "python")
_TIMEOUT_S = 120


class Block(NamedTuple):
    kind: str
    body: str
    file: str | None
    line: int


class Command(NamedTuple):
    text: str
    status: int
    shown: list[str]


def blocks(path: Path) -> list[Block]:
    text = path.read_text(encoding="utf-8")
    return [
        Block("" if m["spared"] else m["kind"], m["body"], m["file"], text.count("\n", 0, m.start("body")) + 1)
        for m in _BLOCK.finditer(text)
    ]


def commands(body: str) -> Iterator[Command]:
    for part in re.split(r"^(?=\$ )", body, flags=re.M):
        lines = part.splitlines()
        if not part.startswith("$ "):
            assert not part.strip(), f"output without a command: {part!r}"
            continue
        last = 1
        while last < len(lines) and lines[last].startswith("> "):
            last += 1
        text = "\n".join(line[2:] for line in lines[:last])
        found = _EXIT.search(text)
        yield Command(_EXIT.sub("", text), int(found[1]) if found else 0, lines[last:])


def matches(shown: list[str], printed: list[str]) -> bool:
    """Whether output is as it is shown, but for spaces and what `…` stands for."""
    wanted = ""
    for line in shown:
        if line.strip() == "…":
            wanted += r"(?:[^\n]*\n)*?"
        else:
            wanted += ".*?".join(re.escape(_plain(part)) for part in _plain(line).split("…")) + r"\n"
    return re.fullmatch(wanted, "".join(_plain(line) + "\n" for line in printed)) is not None


def _plain(line: str) -> str:
    return re.sub(r"─+", "─", re.sub(r"\s+", " ", line.strip()))


def _parameters() -> Iterator[object]:
    for path in RUN:
        found = [block for block in blocks(path) if block.kind in _RUNNABLE]
        if found:
            network = any(_REGISTRY.search(block.body) for block in found)
            yield pytest.param(path, id=str(path.relative_to(ROOT)), marks=[pytest.mark.network] if network else [])


@pytest.fixture
def shell(tmp_path: Path) -> dict[str, str]:
    """Environment of a reader: regraft and its Python on the path, a home and a store of their own."""
    (tmp_path / "home").mkdir()
    (tmp_path / "bin").mkdir()
    for name, arguments in (("regraft", "-m regraft "), ("python", "")):
        program = tmp_path / "bin" / name
        program.write_text(f'#!/bin/sh\nexec "{sys.executable}" {arguments}"$@"\n')
        program.chmod(0o755)
    kept = {key: value for key, value in os.environ.items() if key not in ("COLUMNS", "CI", "GITHUB_ACTIONS")}
    return {
        **kept,
        "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}",
        "HOME": str(tmp_path / "home"),
        "REGRAFT_STORE": str(tmp_path / "home/store"),
        "NO_COLOR": "1",
    }


@pytest.mark.parametrize("path", [*_parameters()])
def test_what_a_document_shows_happens(path: Path, tmp_path: Path, shell: dict[str, str]) -> None:
    folder = tmp_path / "work"
    folder.mkdir()
    for block in blocks(path):
        where = f"{path.relative_to(ROOT)}:{block.line}"
        if block.file is not None:
            (folder / block.file).parent.mkdir(parents=True, exist_ok=True)
            (folder / block.file).write_text(block.body, encoding="utf-8")
        elif block.kind == "console":
            for command in commands(block.body):
                done = _run(["bash", "-c", command.text], folder, shell)
                assert done.returncode == command.status, f"{where}: {command.text}\n{done.stdout}"
                printed = done.stdout.rstrip().splitlines()
                shown = f"{where}: {command.text}\nprints:\n{done.stdout}"
                assert matches(command.shown, printed), shown
        elif block.kind == "bash":
            done = _run(["bash", "-euo", "pipefail", "-c", block.body], folder, shell)
            assert done.returncode == 0, f"{where}\n{done.stdout}"
        elif block.kind == "python":
            done = _run([sys.executable, "-c", block.body], folder, shell)
            assert done.returncode == 0, f"{where}\n{done.stdout}"
            shown = re.findall(r"#> (.*)", block.body)
            assert not shown or matches(shown, done.stdout.splitlines()), f"{where} prints:\n{done.stdout}"


def _run(command: list[str], folder: Path, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=_TIMEOUT_S,
        check=False,
    )


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_leads_somewhere(path: Path) -> None:
    text = re.sub(r"^```.*?^```$", "", path.read_text(encoding="utf-8"), flags=re.M | re.S)
    for target in re.findall(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        found = (path.parent / name).resolve() if name else path
        assert found.exists(), f"{target} in {path.relative_to(ROOT)}"
        if anchor and found.suffix == ".md":
            assert anchor in _anchors(found), f"{target} in {path.relative_to(ROOT)}"


def _anchors(path: Path) -> set[str]:
    """What GitHub makes of headings."""
    headings = re.findall(r"^#+ (.*)$", path.read_text(encoding="utf-8"), re.M)
    return {re.sub(r"[^\w -]", "", re.sub(r"[`*]", "", title).lower()).replace(" ", "-") for title in headings}


def test_every_page_can_be_reached_from_the_map() -> None:
    seen: set[Path] = set()
    waiting = [ROOT / "docs/index.md"]
    while waiting:
        page = waiting.pop()
        if page in seen or page.suffix != ".md" or not page.is_file():
            continue
        seen.add(page)
        targets = re.findall(r"\]\(([^)#\s]+)", page.read_text(encoding="utf-8"))
        waiting += [(page.parent / target).resolve() for target in targets if not re.match(r"[a-z]+:", target)]
    lost = [path for path in (ROOT / "docs").rglob("*.md") if path not in seen and path.parent.name != "adr"]
    assert lost == [], "a page needs a link from docs/index.md, or from a page that it leads to"


@pytest.mark.parametrize(
    ("shown", "printed", "fits"),
    [
        (["a … c"], ["a b c"], True),
        (["a", "…", "z"], ["a", "b", "c", "z"], True),
        (["a", "…", "z"], ["a", "z"], True),
        (["a"], ["a", "b"], False),
        (["a", "…", "z"], ["a", "b"], False),
        (["a   b"], ["a b"], True),
    ],
)
def test_output_is_compared_loosely_but_compared(shown: list[str], printed: list[str], fits: bool) -> None:
    assert matches(shown, printed) is fits


def test_only_a_block_with_a_reason_is_spared(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("<!-- not run: minutes -->\n```bash\nfalse\n```\n\n```bash\ntrue\n```\n")
    assert [(block.kind, block.body) for block in blocks(page)] == [("", "false\n"), ("bash", "true\n")]


def test_a_command_and_its_output_are_told_apart() -> None:
    (first, second) = commands("$ a \\\n> b  # exit 3\nout\n$ c\n")
    assert first == Command("a \\\nb", 3, ["out"])
    assert second == Command("c", 0, [])
