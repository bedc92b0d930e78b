"""Binary data that a package carries along: Parquet, Arrow, SQLite, classic NetCDF, and desktop leftovers."""

from __future__ import annotations

from regraft.package.formats.interface import Description, Loading, Probe, Role

_SIGNATURES = {
    b"PAR1": "parquet",
    b"ARROW1\x00\x00": "arrow",
    b"SQLite format 3\x00": "sqlite",
    b"CDF\x01": "netcdf classic",
    b"CDF\x02": "netcdf classic",
    b"CDF\x05": "netcdf classic",
    b"\x00\x00\x00\x01Bud1": "macOS folder view",
    b"Obj\x01": "avro",
    b"ORC": "orc",
}


class BinaryData:
    """Format `binary-data`."""

    name = "binary-data"
    title = "binary data"
    role = Role.DATA
    loading = Loading.INERT
    suffixes = (".parquet", ".arrow", ".feather", ".sqlite", ".db", ".nc", ".avro", ".orc", ".ds_store")

    def matches(self, probe: Probe) -> bool:
        """The signature of one of them; Parquet's stands at both ends."""
        kind = _kind(probe)
        if kind == "parquet":
            return probe.reader.read_at(probe.reader.size - 4, 4) == b"PAR1"
        return kind is not None

    def describe(self, probe: Probe) -> Description:
        """Only its kind."""
        return Description(metadata={"kind": _kind(probe) or "unknown"})


def _kind(probe: Probe) -> str | None:
    head = probe.head
    return next((kind for signature, kind in _SIGNATURES.items() if head.startswith(signature)), None)
