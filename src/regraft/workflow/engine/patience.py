"""How threads of a library wait for each other: asleep in steps, as the library would where speed is measured.

OpenMP's threads spin by default. Where other processes want the cores, too, that made torch up to five times slower
(and one comparison of a 6-layer encoder took 62 s of CPU time in place of 35).
"""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping

_POLICY, _OURS = "OMP_WAIT_POLICY", "REGRAFT_WAIT_POLICY"


def patient(environment: Mapping[str, str]) -> dict[str, str]:
    """An environment whose threads sleep while they wait, unless its user has decided otherwise."""
    if _POLICY in environment:
        return {**environment}
    return {**environment, _POLICY: "PASSIVE", _OURS: "PASSIVE"}


def make_as_deployed(environment: MutableMapping[str, str]) -> None:
    """Take back what `patient` set, for the processes that are started from now on."""
    if environment.pop(_OURS, None) is not None:
        environment.pop(_POLICY, None)
