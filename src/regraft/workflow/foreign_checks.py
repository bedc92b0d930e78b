"""Checks of what lives outside of this environment: environments of their own, and converters that need them."""

from __future__ import annotations

from collections.abc import Iterator

from regraft.workflow.environment_checks import Check

_LISTED = 6


def check_environments() -> Iterator[Check]:
    """Which environments were made; what needs one names the command that makes it."""
    from regraft.runtime.environments import environment_python, environments, has_environment

    for name in environments():
        if has_environment(name):
            yield Check("RGD-EVN-001", "environment", name, "works", f"made: {environment_python(name).parents[1]}")
        else:
            fix = f"regraft doctor --environment {name}"
            yield Check("RGD-EVN-002", "environment", name, "missing", "not made", fix=fix)


def check_converters() -> Iterator[Check]:
    """How many converters can work here, and each that cannot, with what is missing: a library, hardware."""
    from regraft.deployment.convert.members import converters

    obstacles = {member.name: member.obstacle() for member in converters()}
    works = [name for name, why in obstacles.items() if not why]
    listed = ", ".join(works[:_LISTED]) + (" …" if len(works) > _LISTED else "")
    yield Check("RGD-CON-001", "converter", "all", "works", f"{len(works)} of {len(obstacles)} work here: {listed}")
    for name, why in obstacles.items():
        if why:
            what, _, fix = why.partition(": ")
            yield Check("RGD-CON-002", "converter", name, "missing", f"not run here: {what}", fix=fix or None)


def check_forms() -> Iterator[Check]:
    """Forms that can be made and not be judged, because nothing here runs them."""
    from regraft.deployment.convert.forms import FORMS

    for form in FORMS.values():
        if form.unrun:
            yield Check("RGD-CON-003", "form", form.name, "note", f"not run here: {form.unrun}")
