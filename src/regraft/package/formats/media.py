"""Images, audio, video, fonts and documents, by their signatures: data that a package carries along."""

from __future__ import annotations

from regraft.package.formats.interface import Description, Loading, Probe, Role

_IMAGES = {
    b"\x89PNG\r\n\x1a\n": "png", b"\xff\xd8\xff": "jpeg", b"GIF87a": "gif", b"GIF89a": "gif",
    b"II*\x00": "tiff", b"MM\x00*": "tiff", b"\x00\x00\x01\x00": "ico", b"\xff\x0a": "jpeg-xl",
    b"8BPS": "psd", b"P5\n": "pgm", b"P6\n": "ppm",
}  # fmt: skip
_AUDIO = {
    b"OggS": "ogg",
    b"fLaC": "flac",
    b"ID3": "mp3",
    b"FORM": "aiff",
    b"caff": "caf",
    b".snd": "au",
    b"MThd": "midi",
}
_FONTS = {
    b"wOFF": "woff",
    b"wOF2": "woff2",
    b"OTTO": "opentype",
    b"\x00\x01\x00\x00\x00": "truetype",
    b"ttcf": "truetype",
}
_DOCUMENTS = {b"%PDF-": "pdf", b"%!PS": "postscript"}
_VIDEO_BRANDS = {b"isom", b"mp41", b"mp42", b"avc1", b"qt  ", b"M4V "}
_IMAGE_BRANDS = {b"avif", b"heic", b"mif1"}


class Image:
    """Format `image`."""

    name = "image"
    title = "image"
    role = Role.DATA
    loading = Loading.INERT
    suffixes = (
        ".png",
        ".jpg",
        ".jpeg",
        ".gif",
        ".bmp",
        ".tif",
        ".tiff",
        ".webp",
        ".ico",
        ".avif",
        ".heic",
        ".pgm",
        ".ppm",
        ".psd",
        ".jxl",
    )

    def matches(self, probe: Probe) -> bool:
        """The signature of an image format."""
        return _image(probe) is not None

    def describe(self, probe: Probe) -> Description:
        """Kind, and the size of a PNG."""
        metadata = {"kind": _image(probe) or "unknown"}
        if metadata["kind"] == "png" and probe.head[12:16] == b"IHDR":
            width, height = (int.from_bytes(probe.head[begin : begin + 4], "big") for begin in (16, 20))
            metadata["size"] = f"{width} × {height}"
        return Description(metadata=metadata)


class Audio:
    """Format `audio`."""

    name = "audio"
    title = "audio"
    role = Role.DATA
    loading = Loading.INERT
    suffixes = (".wav", ".ogg", ".oga", ".opus", ".flac", ".mp3", ".aif", ".aiff", ".m4a", ".au", ".mid")

    def matches(self, probe: Probe) -> bool:
        """The signature of an audio format."""
        return _audio(probe) is not None

    def describe(self, probe: Probe) -> Description:
        """Kind, and the sampling of a plain WAV."""
        head = probe.head
        metadata = {"kind": _audio(probe) or "unknown"}
        if metadata["kind"] == "wav" and head[12:16] == b"fmt " and len(head) >= 28:
            metadata["channels"] = str(int.from_bytes(head[22:24], "little"))
            metadata["sample_rate_hz"] = str(int.from_bytes(head[24:28], "little"))
        return Description(metadata=metadata)


class Media:
    """Format `media`: video, fonts and documents."""

    name = "media"
    title = "video, font or document"
    role = Role.OTHER
    loading = Loading.INERT
    suffixes = (".mp4", ".mov", ".avi", ".mkv", ".webm", ".ttf", ".otf", ".woff", ".woff2", ".pdf", ".ps")

    def matches(self, probe: Probe) -> bool:
        """The signature of one of them."""
        return _other(probe) is not None

    def describe(self, probe: Probe) -> Description:
        """Only its kind."""
        return Description(metadata={"kind": _other(probe) or "unknown"})


def _image(probe: Probe) -> str | None:
    head = probe.head
    if head[:2] == b"BM" and int.from_bytes(head[2:6], "little") == probe.reader.size:
        return "bmp"
    if head[:4] == b"RIFF":
        return "webp" if head[8:12] == b"WEBP" else None
    if head[4:8] == b"ftyp" and head[8:12] in _IMAGE_BRANDS:
        return "heif"
    return _signature(head, _IMAGES)


def _audio(probe: Probe) -> str | None:
    head = probe.head
    if head[:4] == b"RIFF":
        return "wav" if head[8:12] == b"WAVE" else None
    if head[:4] == b"FORM" and head[8:12] not in (b"AIFF", b"AIFC"):
        return None
    if head[:2] in (b"\xff\xfb", b"\xff\xf3", b"\xff\xf2") and probe.suffix == ".mp3":  # two bytes prove little
        return "mp3"
    return _signature(head, _AUDIO)


def _other(probe: Probe) -> str | None:
    head = probe.head
    if head[4:8] == b"ftyp" and (head[8:12] in _VIDEO_BRANDS or head[8:11] == b"3gp"):
        return "mp4"
    if head[:4] == b"RIFF":
        return "avi" if head[8:12] == b"AVI " else None
    if head[:4] == b"\x1a\x45\xdf\xa3":
        return "matroska"
    return _signature(head, _FONTS) or _signature(head, _DOCUMENTS)


def _signature(head: bytes, signatures: dict[bytes, str]) -> str | None:
    return next((kind for signature, kind in signatures.items() if head.startswith(signature)), None)
