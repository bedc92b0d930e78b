from __future__ import annotations

import os
import subprocess
import sys
import time

from regraft.workflow.engine import process_tree
from regraft.workflow.engine.process_tree import kill_tree, proportional_memory, tree, tree_usage

FAMILY = "import os, time; os.fork(); os.fork(); x = b'1' * (20 << 20); print(1, flush=True); time.sleep(60)"


def family() -> subprocess.Popen[bytes]:
    parent = subprocess.Popen([sys.executable, "-c", FAMILY], stdout=subprocess.PIPE, start_new_session=True)
    for _ in range(4):
        parent.stdout.readline()
    return parent


def test_a_tree_is_a_process_with_all_its_descendants_and_dies_whole():
    parent = family()
    members = list(tree(parent.pid))
    assert len(members) == 4
    assert members[0] == parent.pid
    usage = tree_usage(parent.pid)
    assert usage.processes == 4
    assert usage.memory_bytes > 80 << 20
    assert 80 << 20 < proportional_memory(parent.pid) < usage.memory_bytes
    kill_tree(parent.pid)
    parent.wait(5)
    parent.stdout.close()
    time.sleep(0.1)
    alive = [pid for pid in members if os.path.exists(f"/proc/{pid}") and "Z" not in process_tree._stat(pid)[0]]
    assert alive == []


def test_without_a_list_of_children_the_tree_is_found_by_parents(monkeypatch):
    monkeypatch.setattr(process_tree, "_children", lambda pid: None)
    parent = family()
    assert len(list(tree(parent.pid))) == 4
    kill_tree(parent.pid)
    parent.wait(5)
    parent.stdout.close()


def test_cpu_of_a_process_is_counted():
    before = tree_usage(os.getpid()).cpu_s
    end = time.process_time() + 0.2
    while time.process_time() < end:
        pass
    assert 0.1 < tree_usage(os.getpid()).cpu_s - before < 1


def test_of_nobody_nothing_is_known(monkeypatch, tmp_path):
    assert tree_usage(2**22 + 1) is None
    monkeypatch.setattr(process_tree, "_PROC", tmp_path / "none")
    assert tree_usage(os.getpid()) is None
    assert proportional_memory(os.getpid()) is None
