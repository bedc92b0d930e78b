"""What was written is loaded once more and run on the sample, before anybody is told that it is a bundle."""

from __future__ import annotations

from pathlib import Path

from regraft.deployment.bundle.interface import Contents, Layout
from regraft.deployment.bundle.runners.sameness import LIMIT, error, stored
from regraft.deployment.loading import LoadRequest
from regraft.errors import Damaged, RegraftError
from regraft.package.package import open_package
from regraft.runtime import load, needs_permit


def read_back(folder: Path, member: Layout, contents: Contents, request: LoadRequest) -> None:
    """See that the graph of a bundle loads from where it was written, and answers as the source does.

    Args:
        request: as the source was loaded.
    Raises:
        Damaged: it does not.
    """
    graph = contents.network
    place = member.graph(contents)
    written = folder / place
    with open_package(written.parent) as package:  # the graph's folder: weights may lie beside it
        try:
            permit = None
            if needs_permit(package, written.name) and request.permit is not None:
                permit = request.permit(package, graph.runtime)
            model = load(package, permit, path=written.name, runtime=graph.runtime, precision=request.precision)
        except RegraftError as refused:
            raise _broken(contents, place, f"it does not load: {refused}") from refused
        answers = model(graph.feeds)
        model.close()
    for name, wanted in graph.answers.items():
        worst = error(answers[name], stored(wanted))
        if not worst <= LIMIT:
            raise _broken(contents, place, f"its output {name!r} is off by {worst:.2g} of the largest number")


def _broken(contents: Contents, place: str, why: str) -> Damaged:
    return Damaged(
        f"the graph that was written to {place} is not the one that was read: {why}",
        where=contents.reference,
        hint="regraft verify REF REF says whether it answers twice alike",
    )
