"""The JSON Schema of evidence, published as docs/reference/evidence.schema.json.

`python -m regraft.record.schema > docs/reference/evidence.schema.json` renews it; a test holds it current.
"""

from __future__ import annotations

import sys
from typing import Any

import msgspec

from regraft.record.evidence import SCHEMA, Evidence

_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_ID = "https://regraft.dev/schema/evidence-1.json"


def evidence_schema() -> bytes:
    """JSON Schema (draft 2020-12) that every record of `regraft.evidence/1` meets, as indented JSON.

    Fields that it does not name are allowed: a minor version may add some.
    """
    schema: dict[str, Any] = msgspec.json.schema(Evidence)
    record = schema["$defs"]["Evidence"]
    record["properties"]["schema"] = {"const": SCHEMA}
    record["required"] = ["schema", *record["required"]]
    document = {"$schema": _DIALECT, "$id": _ID, "title": "Regraft evidence, version 1", **schema}
    return msgspec.json.format(msgspec.json.encode(document, order="sorted"), indent=2) + b"\n"


if __name__ == "__main__":
    sys.stdout.buffer.write(evidence_schema())
