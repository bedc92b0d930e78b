"""OpenVINO's intermediate representation: the XML of a graph, whose constants lie in a `.bin` without a header.

Source: OpenVINO 2026.4, "Model Representation in OpenVINO: IR format" (versions 10 and 11). Document types are refused,
and with them entities and everything outside of the file.
"""

from __future__ import annotations

import re
import xml.parsers.expat
from collections import Counter

from regraft.errors import Damaged, LimitExceeded
from regraft.package.formats.interface import Description, Loading, Port, Probe, Role, Tensor
from regraft.package.limits import MAX_HEADER_BYTES, MAX_NESTING, MAX_TENSORS

_ROOT = re.compile(rb"(?:\xef\xbb\xbf)?\s*(?:<\?xml[^>]{0,200}\?>)?\s*(?:<!--.{0,2000}?-->\s*)*<net[\s>]", re.DOTALL)
_DTYPES = {
    "f64": "float64", "f32": "float32", "f16": "float16", "bf16": "bfloat16", "i64": "int64", "i32": "int32",
    "i16": "int16", "i8": "int8", "i4": "int4", "u64": "uint64", "u32": "uint32", "u16": "uint16", "u8": "uint8",
    "u4": "uint4", "u1": "uint1", "nf4": "nf4", "f8e4m3": "float8_e4m3fn", "f8e5m2": "float8_e5m2",
    "f8e8m0": "float8_e8m0fnu", "f4e2m1": "float4_e2m1fn", "boolean": "bool", "string": "string",
}  # fmt: skip
_PRECISIONS = {"FP64": "float64", "FP32": "float32", "FP16": "float16", "BF16": "bfloat16", "BOOL": "bool"}
_PATH_OF_LAYER = ["net", "layers", "layer"]
_FACT_TAGS = ("MO_version", "Runtime_version", "conversion_parameters", "optimization", "legacy_frontend")
_MAX_FACT_CHARS = 500
_MAX_RANK = 64
_MAX_ELEMENTS = (1 << 58) - 1


class OpenVino:
    """Format `openvino-ir`."""

    name = "openvino-ir"
    title = "OpenVINO IR"
    role = Role.GRAPH
    loading = Loading.INERT
    suffixes = (".xml",)

    def matches(self, probe: Probe) -> bool:
        """XML whose root is `net`, with layers."""
        return _ROOT.match(probe.head) is not None and b"<layers" in probe.head

    def describe(self, probe: Probe) -> Description:
        """Layers by type, parameters and results as the signature, constants as tensors (their data lie beside).

        Raises:
            Damaged: the XML is not well-formed, declares a document type, or its numbers are none.
            LimitExceeded: it is too large, too deep or has too many constants.
        """
        network = _Network(probe.reader.where)
        network.parse(probe.reader.read_all(limit=MAX_HEADER_BYTES))
        return Description(
            version=network.version,
            tensors=tuple(network.constants),
            operators=dict(network.operators),
            opsets=network.opsets,
            inputs=tuple(network.inputs),
            outputs=tuple(network.outputs),
            metadata=network.metadata,
        )


class _Network:
    """Listens to the parser. Subgraphs (bodies of loops) count their operators, but have no part in the signature."""

    def __init__(self, where: str) -> None:
        self.version: str | None = None
        self.operators: Counter[str] = Counter()
        self.opsets: dict[str, int] = {}
        self.inputs: list[Port] = []
        self.outputs: list[Port] = []
        self.constants: list[Tensor] = []
        self.metadata: dict[str, str] = {}
        self._where = where
        self._path: list[str] = []
        self._layer: dict[str, str] = {}
        self._port_dtype = "unknown"
        self._dims: list[int | None] = []
        self._text = ""

    def parse(self, content: bytes) -> None:
        parser = xml.parsers.expat.ParserCreate()
        parser.StartDoctypeDeclHandler = self._refuse
        parser.EntityDeclHandler = self._refuse
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._characters
        try:
            parser.Parse(content, True)
        except xml.parsers.expat.ExpatError as error:
            raise Damaged(f"not well-formed XML: {error}", where=self._where) from None
        except (ValueError, LookupError) as error:  # an encoding that does not exist
            raise Damaged(f"XML that cannot be decoded: {str(error)[:100]}", where=self._where) from None

    def _refuse(self, *_: object) -> None:
        raise Damaged("the XML declares a document type or an entity, which this format never does", where=self._where)

    def _start(self, tag: str, attributes: dict[str, str]) -> None:
        self._path.append(tag)
        if len(self._path) > MAX_NESTING:
            raise LimitExceeded(f"elements nested more than {MAX_NESTING} deep", where=self._where)
        self._text = ""
        if len(self._path) == 1:
            self.version = attributes.get("version")
            if attributes.get("name"):
                self.metadata["graph_name"] = attributes["name"][:_MAX_FACT_CHARS]
        elif self._path[-3:-1] == ["net", "rt_info"] or (len(self._path) == 3 and self._path[1] == "rt_info"):
            if tag in _FACT_TAGS and "value" in attributes:
                self.metadata[tag] = attributes["value"][:_MAX_FACT_CHARS]
        elif tag == "layer":
            self._start_layer(attributes)
        elif tag == "data" and self._path[:-1] == _PATH_OF_LAYER:
            self._data(attributes)
        elif tag == "port":
            precision = attributes.get("precision", "")
            self._port_dtype = _PRECISIONS.get(precision, _dtype(precision.lower()))
            self._dims = []

    def _start_layer(self, attributes: dict[str, str]) -> None:
        self.operators[attributes.get("type", "")[:200]] += 1
        opset = attributes.get("version", "")
        if opset.startswith("opset") and opset[5:].isascii() and opset[5:].isdigit() and len(opset) < 10:
            self.opsets["opset"] = max(int(opset[5:]), self.opsets.get("opset", 0))
        elif opset:
            self.opsets.setdefault(opset[:200], 1)
        if len(self._path) == 3:
            self._layer = attributes

    def _data(self, attributes: dict[str, str]) -> None:
        """Attributes of a layer of the main graph: the type and shape of parameters and constants."""
        kind, name = self._layer.get("type"), self._layer.get("name", "")[:_MAX_FACT_CHARS]
        if kind == "Parameter":
            dtype = _dtype(attributes.get("element_type", ""))
            self.inputs.append(Port(name, dtype, self._extents(attributes.get("shape", ""))))
        elif kind == "Const":
            shape = tuple(extent for extent in self._extents(attributes.get("shape", "")) if extent is not None)
            size = self._extents(attributes.get("size", "0"))
            bare = Tensor(name, _dtype(attributes.get("element_type", "")), shape)
            if bare.elements > _MAX_ELEMENTS:
                raise Damaged(f"constant {name[:100]!r} has the shape {shape}", where=self._where)
            self.constants.append(Tensor(name, bare.dtype, shape, size[0] if size else None))
            if len(self.constants) > MAX_TENSORS:
                raise LimitExceeded(f"more than {MAX_TENSORS} constants", where=self._where)

    def _end(self, tag: str) -> None:
        if tag == "dim":
            self._dims.append(self._extents(self._text)[0] if self._text.strip() else None)
        elif tag == "port" and self._path == [*_PATH_OF_LAYER, "input", "port"] and self._layer.get("type") == "Result":
            name = self._layer.get("name", "")[:_MAX_FACT_CHARS]
            self.outputs.append(Port(name, self._port_dtype, tuple(self._dims[:_MAX_RANK])))
        self._path.pop()

    def _characters(self, text: str) -> None:
        if self._path[-1] == "dim" and len(self._text) < 100:
            self._text += text

    def _extents(self, text: str) -> tuple[int | None, ...]:
        """`1,3,?,1..9` as extents; -1, `?` and ranges are unknown."""
        parts = [part.strip() for part in text.split(",", _MAX_RANK)] if text.strip() else []
        found: list[int | None] = []
        for part in parts:
            if re.fullmatch(r"-1|\?|\d*\.\.\d*", part, re.ASCII):
                found.append(None)
            elif re.fullmatch(r"\d{1,18}", part, re.ASCII):
                found.append(int(part))
            else:
                raise Damaged(f"{part[:40]!r} is not the extent of a dimension", where=self._where)
        return tuple(found)


def _dtype(word: str) -> str:
    return _DTYPES.get(word, word[:40] or "unknown")
