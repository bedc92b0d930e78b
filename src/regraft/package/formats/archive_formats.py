"""Archives and compressed files that are nothing more specific: what is inside is judged on its own."""

from __future__ import annotations

from collections import Counter

from regraft.errors import Damaged
from regraft.package.archive import Archive, is_tar_head, open_archive, open_tar, open_zip
from regraft.package.compression import Codec, peek, sniff
from regraft.package.formats.interface import Description, Loading, Probe, Role

_ZIP_MAGIC = (b"PK\x03\x04", b"PK\x05\x06", b"PK\x07\x08")
_MAX_SUFFIXES = 8


class Zip:
    """A zip archive, also behind a prefix such as a script's."""

    name = "zip"
    title = "Zip archive"
    role = Role.ARCHIVE
    loading = Loading.INERT
    suffixes = (".zip", ".whl", ".egg", ".jar", ".mar")

    def matches(self, probe: Probe) -> bool:
        """See `Format.matches`; a damaged one is still recognised by its first bytes."""
        return probe.head.startswith(_ZIP_MAGIC) or probe.zip is not None

    def describe(self, probe: Probe) -> Description:
        """See `Format.describe`."""
        return _describe(open_zip(probe.reader))


class TorchServe:
    """A TorchServe model archive: weights, and Python that the server runs to handle requests."""

    name = "torchserve"
    title = "TorchServe archive"
    role = Role.ARCHIVE
    loading = Loading.CODE
    suffixes = (".mar",)

    def matches(self, probe: Probe) -> bool:
        """See `Format.matches`."""
        is_zip = probe.head.startswith(_ZIP_MAGIC)
        return is_zip and probe.zip is not None and "MAR-INF/MANIFEST.json" in probe.zip.by_name

    def describe(self, probe: Probe) -> Description:
        """See `Format.describe`."""
        return _describe(open_zip(probe.reader))


class Tar:
    """A tar archive."""

    name = "tar"
    title = "Tar archive"
    role = Role.ARCHIVE
    loading = Loading.INERT
    suffixes = (".tar",)

    def matches(self, probe: Probe) -> bool:
        """See `Format.matches`: a header with the right checksum."""
        return is_tar_head(probe.head[:512])

    def describe(self, probe: Probe) -> Description:
        """See `Format.describe`."""
        return _describe(open_tar(probe.reader))


class Compressed:
    """A compressed stream of anything: gzip, bzip2, xz, lzma, zlib, zstd, lz4."""

    name = "compressed"
    title = "Compressed file"
    role = Role.ARCHIVE
    loading = Loading.INERT
    suffixes = (".gz", ".tgz", ".bz2", ".xz", ".lzma", ".zst", ".lz4", ".z")

    def matches(self, probe: Probe) -> bool:
        """See `Format.matches`; the weak marks of zlib and lzma count only when something can be expanded."""
        codec = sniff(probe.head)
        if codec in (Codec.ZLIB, Codec.LZMA):
            return bool(peek(probe.reader, codec, 64))
        return codec is not None

    def describe(self, probe: Probe) -> Description:
        """See `Format.describe`. Only the first block is expanded."""
        codec = sniff(probe.head)
        if codec is None:
            raise Damaged("not a compressed stream", where=probe.name)
        head = peek(probe.reader, codec, 512)
        metadata = {"compression": codec.value}
        if head:
            metadata["content"] = "tar" if is_tar_head(head) else "one file"
        return Description(metadata=metadata)


class SevenZip:
    """A 7z archive."""

    name = "7z"
    title = "7z archive"
    role = Role.ARCHIVE
    loading = Loading.INERT
    suffixes = (".7z",)

    def matches(self, probe: Probe) -> bool:
        """See `Format.matches`."""
        return probe.head.startswith(b"7z\xbc\xaf\x27\x1c")

    def describe(self, probe: Probe) -> Description:
        """See `Format.describe`."""
        archive = open_archive(probe.reader)
        assert archive is not None
        return _describe(archive)


class Sealed:
    """RAR archives: recognised, not opened."""

    name = "sealed-archive"
    title = "RAR archive"
    role = Role.ARCHIVE
    loading = Loading.UNKNOWN
    suffixes = (".rar",)

    def matches(self, probe: Probe) -> bool:
        """See `Format.matches`."""
        return probe.head.startswith(b"Rar!\x1a\x07")

    def describe(self, probe: Probe) -> Description:
        """See `Format.describe`."""
        return Description(metadata={"archive": "rar", "content": "unknown"})


def _describe(archive: Archive) -> Description:
    files = [member for member in archive.members if not member.is_directory]
    endings = Counter(member.name.rpartition("/")[2].rpartition(".")[2].lower()[:20] for member in files)
    return Description(
        metadata={
            "members": str(len(files)),
            "expanded_bytes": str(sum(member.size_bytes for member in files)),
            "suffixes": ", ".join(f"{ending} {count}" for ending, count in endings.most_common(_MAX_SUFFIXES)),
        },
        problems=archive.problems,
    )
