"""ExecuTorch programs (`.pte`): methods, operators and delegates from the FlatBuffer.

Source: executorch/schema/program.fbs (identifier ET12); field numbers are positions in its tables.
Constants have no names in this format and live in segments: tensors stay unknown.
"""

from __future__ import annotations

from collections import Counter

from regraft.package.formats.flatbuffer import Buffer, Table, has_identifier
from regraft.package.formats.interface import Description, Loading, Port, Probe, Role

_SCALAR_TYPES = (
    "uint8", "int8", "int16", "int32", "int64", "float16", "float32", "float64", "complex32", "complex64",
    "complex128", "bool",
)  # fmt: skip
_BFLOAT16 = 15
_KERNEL_CALL, _DELEGATE_CALL = 1, 2
_TENSOR_VALUE = 4
_MAX_FACT_CHARS = 500


class ExecuTorch:
    """Format `executorch`."""

    name = "executorch"
    title = "ExecuTorch program"
    role = Role.WEIGHTS
    loading = Loading.INERT
    suffixes = (".pte",)

    def matches(self, probe: Probe) -> bool:
        """The file identifier `ET` and two digits."""
        return probe.head[4:6] == b"ET" and probe.head[6:8].isdigit() and has_identifier(probe.head, probe.head[4:8])

    def describe(self, probe: Probe) -> Description:
        """Methods, kernels called, delegates, and the tensors of the first method's signature.

        Raises:
            Damaged, LimitExceeded: the tables cannot be read.
        """
        program = Buffer(probe.reader).root()
        plans = list(program.tables(1))
        operators: Counter[str] = Counter()
        delegates: set[str] = set()
        for plan in plans:
            operators.update(_calls(plan))
            delegates.update((delegate.text(0) or "")[:_MAX_FACT_CHARS] for delegate in plan.tables(7))
        metadata = {"methods": ", ".join((plan.text(0) or "")[:_MAX_FACT_CHARS] for plan in plans)[:_MAX_FACT_CHARS]}
        if delegates:
            metadata["delegates"] = ", ".join(sorted(delegates))[:_MAX_FACT_CHARS]
        metadata["segments"] = str(program.length(4))
        metadata["identifier"] = probe.head[4:8].decode("ascii", "replace")
        return Description(
            version=str(program.uint(0, 4)),
            operators=dict(operators),
            inputs=_ports(plans[0], 3) if plans else (),
            outputs=_ports(plans[0], 4) if plans else (),
            metadata=metadata,
        )


def _calls(plan: Table) -> Counter[str]:
    names = [f"{table.text(0) or ''}.{table.text(1) or ''}".rstrip(".")[:_MAX_FACT_CHARS] for table in plan.tables(6)]
    counts: Counter[str] = Counter()
    for chain in plan.tables(5):
        for instruction in chain.tables(2):
            kind, call = instruction.uint(0, 1), instruction.table(1)
            if kind == _KERNEL_CALL and call is not None:
                index = call.sint(0, 4)
                counts[names[index] if 0 <= index < len(names) else f"operator {index}"] += 1
            elif kind == _DELEGATE_CALL:
                counts["delegate"] += 1
    return counts


def _ports(plan: Table, field: int) -> tuple[Port, ...]:
    values = list(plan.tables(2))
    ports = []
    for index in plan.sints(field, 4):
        if not 0 <= index < len(values):
            continue
        tensor = values[index].table(1) if values[index].uint(0, 1) == _TENSOR_VALUE else None
        if tensor is None:
            ports.append(Port(str(index), "unknown"))
            continue
        number = tensor.sint(0, 1)
        known = _SCALAR_TYPES[number] if 0 <= number < len(_SCALAR_TYPES) else f"type_{number}"
        dtype = "bfloat16" if number == _BFLOAT16 else known
        ports.append(Port(str(index), dtype, tensor.sints(2, 4)))
    return tuple(ports)
