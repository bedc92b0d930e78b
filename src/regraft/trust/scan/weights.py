"""Rules about what hides in weights: programs between and within tensors, traces of content in their low bytes.

By default only bytes that belong to no tensor are looked at, a few kilobytes of them; `scan --weights` reads the
tensors too.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING

from regraft.errors import RegraftError
from regraft.package.formats import Description, Loading, Role
from regraft.package.package import Package
from regraft.package.reader import Reader
from regraft.record.evidence import JSON, Finding, Severity
from regraft.trust.scan.descriptions import description_of
from regraft.trust.scan.interface import Rule, Site, WeightCount
from regraft.trust.scan.programs import HEADER_BYTES, Hidden, code_in, programs_in
from regraft.trust.scan.walk import RAW_HOLDERS

if TYPE_CHECKING:
    from regraft.package.formats.weight_places import WeightPlace

PROGRAM = Rule(
    "RGS-WGT-001",
    Severity.HIGH,
    "A program hides in the weights",
    "Its header is proved field by field; it stands where numbers should, or between them, or in their low bytes. "
    "Loading the model does not start it: something else will take it out and run it.",
    "Do not use this model. Report it to where you got it from.",
    cwe=506,
)
NO_NUMBERS = Rule(
    "RGS-WGT-002",
    Severity.UNKNOWN,
    "An archive hides in the weights",
    "It stands where numbers should, or between them; what opens the file as weights does not see it.",
    "Cut it out and scan it.",
    cwe=506,
)
TRACES = Rule(
    "RGS-WGT-003",
    Severity.UNKNOWN,
    "The low bytes of weights carry something else than rounding leaves",
    "Trained weights end in noise. These end in bytes with the statistics of text, programs or encrypted data: this is "
    "how malware is carried in models that work as before (EvilModel, StegoNet). A statistic is no proof.",
    "Ask how the tensor was made, or round the weights to 16 bits: that destroys what they carry.",
    cwe=506,
)

NOT_READ = Rule(
    "RGS-WGT-004",
    Severity.UNKNOWN,
    "Tensors whose numbers were not read",
    "The scan was asked to read the weights and could not read all of them: they are compressed, quantised in blocks, "
    "kept in another file, or in a format or of a type that is not tested. What hides there was not looked for.",
    "Convert them to safetensors with regraft convert, and scan that; or judge the rest by who published it.",
)

_GAPS = frozenset({"hole", "trailing-data", "hidden-data", "prefixed-data"})
"""Kinds of problems that say that bytes belong to nothing."""
_GAP_BYTES = 64 << 10
_MAX_GAPS = 16
_CHUNK_BYTES = 4 << 20
_MAX_FINDINGS = 20
_WITHOUT_ARCHIVES = frozenset({"safetensors", "gguf", "numpy", "onnx", "ggml", "torch-legacy"})
"""Formats in which no archive belongs; TFLite keeps the files of its metadata in one."""
_READ_WHOLE = frozenset({Role.WEIGHTS, Role.GRAPH, Role.DATA})
_WITHOUT_LOW_BYTES = ("int", "uint", "bool", "float8", "string")
"""Types whose bytes are searched, and which have no low bytes that could be replaced unseen."""
_MAX_NAMED, _MAX_LISTED = 8, 1000
_NOT_READ = frozenset({"pickle", "joblib", "torchscript"})
_WEIGHTS = ("float", "bfloat", "complex", "int", "uint", "q", "iq", "tq", "mx")
"""How types of numbers that can be weights begin; texts, dates, records and objects are none."""
"""Formats whose own bytes hold names and code; the arrays in them are read where they lie in members."""


class WeightsFamily:
    """Looks for what is no number where numbers should be."""

    name = "weights"
    judges: frozenset[str] = frozenset()
    rules: Sequence[Rule] = (PROGRAM, NO_NUMBERS, TRACES, NOT_READ)

    def examine(self, site: Site) -> Iterator[Finding]:
        """Findings about the gaps of one file; about its tensors too where the scan reads weights."""
        found = _in_weights(site, site.weights) if site.weights is not None else _in_gaps(site)
        told: set[tuple[str, int | None]] = set()
        for finding in islice(found, _MAX_FINDINGS):
            place = (finding.rule, finding.where.offset)
            if finding.where.offset is None or place not in told:
                told.add(place)
                yield finding

    def examine_package(self, package: Package, sites: Sequence[Site]) -> Iterator[Finding]:
        """Nothing: files are searched one by one."""
        return iter(())


def _in_weights(site: Site, count: WeightCount) -> Iterator[Finding]:
    from regraft.package.formats.weight_places import weight_places

    yield from _in_gaps(site)
    if not site.is_container and _holds_numbers(site):
        yield from _in_file(site)
    if site.format is None:
        return
    unread = list(_without_places(site))
    try:
        for place in weight_places(site.probe, site.format.name):
            why = _why_unread(place)
            if why is None:
                count.read += 1
            else:
                unread.append((f"{place.name[:100]!r} ({place.dtype[:40]}): {why}", place.name[:200]))
            if place.reader is not None:
                yield from _in_place(site, place, place.reader)
    except RegraftError as error:
        unread.append((error.what[:200], ""))
    count.unread += len(unread)
    if unread:
        message = f"{len(unread)} not read: {'; '.join(text for text, _ in unread[:_MAX_NAMED])}"
        message += "; …" if len(unread) > _MAX_NAMED else ""
        names: list[JSON] = [name for _, name in unread[:_MAX_LISTED]]
        yield NOT_READ.finding(message, site.where(), tensors=names, count=len(unread))


def _why_unread(place: WeightPlace) -> str | None:
    """Why the numbers of an array were not tested; None where they are."""
    from regraft.trust.scan.mantissa import WIDTHS

    if place.reader is None:
        return place.why if place.dtype.startswith(_WEIGHTS) or not place.dtype else None
    if place.dtype in WIDTHS or place.dtype.startswith(_WITHOUT_LOW_BYTES) or not place.dtype.startswith(_WEIGHTS):
        return None
    return "no test for this type"


def _without_places(site: Site) -> Iterator[tuple[str, str]]:
    """Tensors of a format of which it is not known where they lie."""
    from regraft.package.formats.weight_places import has_places

    kind = site.format.name if site.format is not None else ""
    is_read_by_member = site.is_container and kind not in RAW_HOLDERS
    if site.format is None or is_read_by_member or has_places(kind) or has_places(site.inside or ""):
        return
    from regraft.trust.scan.mantissa import LEAST

    description = description_of(site)
    tensors = (description.tensors or ()) if isinstance(description, Description) else ()
    for tensor in tensors:
        if tensor.elements < LEAST or not tensor.dtype.startswith(_WEIGHTS):
            continue
        yield f"{tensor.name[:100]!r} ({tensor.dtype[:40]}): not read in {site.format.title}", tensor.name[:200]
    if not tensors and kind not in _NOT_READ and (site.format.role is Role.WEIGHTS or kind == "openvino"):
        yield f"the tensors of {site.format.title}", ""


def _holds_numbers(site: Site) -> bool:
    if site.format is None:
        return True
    is_text = site.format.loading is Loading.CODE and site.format.name in _NOT_READ
    return site.format.role in _READ_WHOLE and not is_text


def _in_gaps(site: Site) -> Iterator[Finding]:
    problems = site.archive.problems if site.archive is not None else ()
    if not problems and site.format is not None and site.format.role in _READ_WHOLE:
        description = description_of(site)
        problems = description.problems if isinstance(description, Description) else ()
    offsets = [problem.offset for problem in problems if problem.kind in _GAPS and problem.offset is not None]
    for offset in sorted(set(offsets))[:_MAX_GAPS]:
        data = site.probe.reader.read_at(offset, _GAP_BYTES)
        for hidden in (*programs_in(data), *code_in(data)):
            if hidden.is_program:
                yield _finding(site, hidden, offset, "in bytes that belong to nothing")
                break


def _in_file(site: Site) -> Iterator[Finding]:
    """Programs anywhere in a file; archives where none belongs. The file itself is not one that hides in it."""
    kind = site.format.name if site.format is not None else ""
    for base, data in _windows(site.probe.reader):
        for hidden in programs_in(data):
            if base + hidden.offset and (hidden.is_program or kind in _WITHOUT_ARCHIVES):
                yield _finding(site, hidden, base, "among the weights")


def _in_place(site: Site, place: WeightPlace, reader: Reader) -> Iterator[Finding]:
    from regraft.trust.scan.mantissa import WIDTHS, traces_in
    from regraft.trust.scan.planes import may_be_text, streams_of

    where = f"in the numbers of {place.name[:100]!r}" if place.name else "in the numbers"
    for base, data in _windows(reader):
        if site.is_container:
            yield from (_finding(site, hidden, base, where) for hidden in programs_in(data))
        if may_be_text(data):
            yield from (_finding(site, hidden, base, where) for hidden in code_in(data))
    if place.dtype not in WIDTHS:
        return
    for base, data in _windows(reader):
        for plane, stream in streams_of(data, place.dtype):
            for hidden in (*programs_in(stream), *(code_in(stream) if may_be_text(stream) else ())):
                if hidden.is_program:
                    message = f"{hidden.what} in the {plane} of {place.name[:100]!r}"
                    yield PROGRAM.finding(message, site.where(), tensor=place.name[:200], bytes_from=base)
    for trace in traces_in(reader, place.dtype):
        message = (
            f"{trace.blocks} of {trace.of} blocks of {place.name[:100]!r} show {trace.kind} in their low bytes, "
            f"from element {trace.first} on"
        )
        yield TRACES.finding(
            message,
            site.where(),
            tensor=place.name[:200],
            kind=trace.kind,
            blocks=trace.blocks,
            tested=trace.of,
            strongest=trace.strongest,
        )


def _finding(site: Site, hidden: Hidden, base: int, where: str) -> Finding:
    rule = PROGRAM if hidden.is_program else NO_NUMBERS
    at = base + hidden.offset
    return rule.finding(f"{hidden.what} {where}, at byte {at}", site.where(offset=at))


def _windows(reader: Reader) -> Iterator[tuple[int, bytes]]:
    """(offset, bytes) of windows that overlap by what proves a header."""
    for base in range(0, reader.size, _CHUNK_BYTES):
        yield base, reader.read_at(base, _CHUNK_BYTES + HEADER_BYTES)
