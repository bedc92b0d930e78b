"""Writers that are killed at random moments: `python killed_writers.py STORE KILLS SEED`.

Forks KILLS writers one after the other, each into STORE/<n>; prints what each had reported when it died.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from pathlib import Path

import msgspec

from regraft.record.digest import Digest, digest_bytes
from regraft.record.evidence import Draft, Evidence, Subject
from regraft.record.store import Store

LIVES_PER_STORE = 20
MOST_REPORTS = 6
LONGEST_DELAY_S = 0.003


def template() -> Evidence:
    draft = Draft("scan", parameters={"padding": "x" * 3000})
    draft.subject.append(Subject("model", Digest("ab" * 32)))
    return draft.finish(outcome="safe", summary="0")


def write_forever(root: Path, life: int, report: int) -> None:
    """Put records until killed; what only this life writes, and what every life writes again."""
    store = Store(root)
    shared = template_evidence
    count = 0
    while True:
        count += 1
        own = msgspec.structs.replace(shared, summary=f"{life}.{count}")
        digest = store.put_evidence(own)
        os.write(report, f"evidence {digest}\n".encode())
        key = digest_bytes(f"key {life % 3}".encode())
        store.set_step(key, digest)
        os.write(report, f"step {key}\n".encode())
        blob = store.put_blob(f"{life}.{count}.{part}".encode() * 4000 for part in range(4))
        os.write(report, f"blob {blob}\n".encode())
        os.write(report, f"evidence {store.put_evidence(shared)}\n".encode())


def one_life(root: Path, life: int, reports: int, delay_s: float) -> str:
    """Let a writer report so many times and then live a moment longer; everything that it reported."""
    readable, writable = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(readable)
        try:
            write_forever(root, life, writable)
        except BaseException as error:  # noqa: BLE001  nothing may escape from a forked child
            os.write(writable, f"error {error!r}\n".encode())
        os._exit(1)
    os.close(writable)
    with open(readable, "rb") as pipe:
        said = [pipe.readline() for _ in range(reports)]
        time.sleep(delay_s)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        return b"".join([*said, pipe.read()]).decode()


template_evidence = template()

if __name__ == "__main__":
    base, kills, seed = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    draw = random.Random(seed)
    for number in range(kills):
        folder = base / str(number // LIVES_PER_STORE)
        # Some die before their first report: the making of the store is among the moments that are hit.
        said = one_life(folder, number, draw.randrange(MOST_REPORTS), draw.uniform(0, LONGEST_DELAY_S))
        for line in said.splitlines():
            print(folder.name, line)
