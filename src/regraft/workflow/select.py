"""select with the scan before it: what could execute code is scanned, then compared."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from regraft.adaptation.data import DataSpec, LabelledData
from regraft.adaptation.features import Candidate
from regraft.adaptation.select import Selection
from regraft.adaptation.select import select as select_permitted
from regraft.record.store import Store, open_store
from regraft.workflow.bench import permit_by_scan


def select(
    candidates: Sequence[Candidate | str | os.PathLike[str] | Mapping[str, str | None]],
    data: DataSpec | LabelledData | str | os.PathLike[str],
    *,
    store: Store | None = None,
    offline: bool = False,
    trust_code: bool = False,
    **options: Any,
) -> Selection:
    """Compare candidates on labelled data, beside trivial baselines; which one serves it, and is reuse worth it?

    Args:
        candidates, data, store, offline, options: as `regraft.adaptation.select.select`, which says what they mean.
        trust_code: the user vouches for code that candidates bring; it runs in the sandbox, and nowhere else.
    Returns:
        the choice with evidence of kind `select`.
    Raises:
        As there.
    """
    store = store or open_store()
    permit = permit_by_scan(store, trust_code=trust_code)
    return select_permitted(candidates, data, store=store, offline=offline, permit=permit, **options)
