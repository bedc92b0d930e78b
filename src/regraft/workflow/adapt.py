"""adapt with the scan before it: what could execute code is scanned, then learnt from."""

from __future__ import annotations

import os
from typing import Any

from regraft.adaptation.adapt import Adaptation
from regraft.adaptation.adapt import adapt as adapt_permitted
from regraft.adaptation.data import DataSpec, LabelledData
from regraft.package.reference import ModelRef
from regraft.record.store import Store, open_store
from regraft.workflow.bench import permit_by_scan


def adapt(
    ref: str | os.PathLike[str] | ModelRef,
    data: DataSpec | LabelledData | str | os.PathLike[str],
    *,
    out: str | os.PathLike[str],
    store: Store | None = None,
    offline: bool = False,
    trust_code: bool = False,
    **options: Any,
) -> Adaptation:
    """Learn a head on an encoder's features and write both as one package that runs by itself.

    Args:
        ref, data, out, store, offline, options: as `regraft.adaptation.adapt.adapt`, which says what they mean.
        trust_code: the user vouches for code that the encoder brings: it runs in the sandbox and goes into the new
            package, whose users have to vouch for it again.
    Returns:
        the path of the package with evidence of kind `adapt`.
    Raises:
        As there.
    """
    store = store or open_store()
    permit = permit_by_scan(store, trust_code=trust_code)
    return adapt_permitted(ref, data, out=out, store=store, offline=offline, permit=permit, **options)
