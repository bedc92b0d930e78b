from __future__ import annotations

import os
import time

import pytest

from regraft.package.package import open_package
from regraft.record.digest import digest_bytes
from regraft.record.evidence import Draft
from regraft.record.store import Store
from regraft.workflow.products import find_product, is_subject, keep_product, working_folder

KEY = digest_bytes(b"a step")


@pytest.fixture
def store(tmp_path) -> Store:
    return Store(tmp_path / "kept")


def evidence_about(path):
    draft = Draft("convert")
    with open_package(path) as package:
        draft.subject += package.subjects(package.manifest())
    return draft.finish(outcome="converted", summary="")


def made_in(folder, text="weights"):
    path = folder / "made"
    path.mkdir()
    (path / "a.txt").write_text(text)
    return path


def test_what_was_made_is_found_by_its_step_and_only_while_it_is_whole(store):
    with working_folder(store) as folder:
        made = made_in(folder)
        evidence = evidence_about(made)
        kept = keep_product(store, KEY, made, evidence)
        assert not made.exists()
    assert find_product(store, KEY, "made", evidence) == kept
    assert find_product(store, digest_bytes(b"another step"), "made", evidence) is None
    (kept / "b.txt").write_text("more")
    assert find_product(store, KEY, "made", evidence) is None


def test_the_same_package_stays_where_it_is_and_another_takes_its_place(store):
    with working_folder(store) as folder:
        kept = keep_product(store, KEY, made_in(folder), evidence_about(folder / "made"))
    number = kept.stat().st_ino
    with working_folder(store) as folder:
        assert keep_product(store, KEY, made_in(folder), evidence_about(folder / "made")) == kept
    assert kept.stat().st_ino == number, "somebody may be reading it"
    with working_folder(store) as folder:
        other = made_in(folder, "other weights")
        evidence = evidence_about(other)
        assert is_subject(keep_product(store, KEY, other, evidence), evidence)


def test_nothing_and_what_cannot_be_read_is_not_the_subject(store, tmp_path):
    path = made_in(tmp_path)
    evidence = evidence_about(path)
    assert is_subject(path, evidence)
    assert not is_subject(tmp_path / "nowhere", evidence)
    assert not is_subject(path, Draft("convert").finish(outcome="", summary=""))
    os.mkfifo(tmp_path / "pipe")
    assert not is_subject(tmp_path / "pipe", evidence)


def test_working_folders_go_with_their_run_and_those_of_the_dead_a_day_later(store):
    with working_folder(store) as folder:
        area = folder.parent
    assert not folder.exists()
    fresh, old, own, strange = (area / name for name in (f"{2**22 + 1}-a", f"{2**22 + 1}-b", f"{os.getpid()}-c", "x"))
    for path in (fresh, old, own, strange):
        path.mkdir()
    for path in (old, own, strange):
        os.utime(path, (0, time.time() - 2 * 86400))
    with working_folder(store):
        pass
    assert sorted(path.name for path in area.iterdir()) == sorted([fresh.name, own.name])
