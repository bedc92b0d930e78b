"""Regenerate src/regraft/trust/scan/tensorflow_operators.txt: the operators that TensorFlow itself registers.

The names stand in the public `tf.raw_ops` module, which is read out of the wheel; nothing is installed or imported.
"""

from __future__ import annotations

import contextlib
import re
import sys
from pathlib import Path

from regraft.package.package import open_package

TARGET = Path(__file__).parent.parent / "src/regraft/trust/scan/tensorflow_operators.txt"
SOURCE = "tensorflow/_api/v2/raw_ops/__init__.py"
_IMPORT = re.compile(r"^from tensorflow\.python\.ops\.gen_\w+ import (\w+)", re.MULTILINE)


def main(version: str) -> None:
    with contextlib.closing(open_package(f"pypi://tensorflow=={version}")) as package:
        names = sorted(set(_IMPORT.findall(package.open(SOURCE).read_all().decode())))
    TARGET.write_text(f"# tf.raw_ops of TensorFlow {version}\n" + "\n".join(names) + "\n")
    print(f"{len(names)} operators")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "2.21.0")
