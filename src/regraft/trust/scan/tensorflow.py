"""Rules about TensorFlow graphs and TFLite models: operators that read, write or call outside of the graph."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from regraft.package.formats import Description
from regraft.package.package import Package
from regraft.record.evidence import Finding, Severity
from regraft.trust.scan.descriptions import description_of
from regraft.trust.scan.interface import Rule, Site

FILE_OPERATOR = Rule(
    "RGS-TFL-001",
    Severity.HIGH,
    "A graph operator that reads or writes files",
    "ReadFile, WriteFile, readers and writers of data sets open paths that the model chooses, with your rights, when "
    "the graph runs.",
    "Do not run this model. Report it to where you got it from.",
    cwe=73,
)
NETWORK_OPERATOR = Rule(
    "RGS-TFL-004",
    Severity.HIGH,
    "A graph operator that talks to a server",
    "The operator opens a connection to an address that the model chooses when the graph runs.",
    "Do not run this model. Report it to where you got it from.",
    cwe=918,
)
OUTSIDE_OPERATOR = Rule(
    "RGS-TFL-002",
    Severity.UNKNOWN,
    "A graph operator that reaches outside of the graph",
    "It calls back into Python, or keeps data in a file; what happens depends on its surroundings.",
    "Look at what the operator is given, then pass --allow NAME.",
)
CUSTOM_OPERATOR = Rule(
    "RGS-TFL-003",
    Severity.UNKNOWN,
    "A custom TFLite operator",
    "The interpreter needs native code from another library to run it; what it does cannot be told from here.",
    "Find the library that brings the operator, then pass --allow NAME.",
    cwe=829,
)

ASSET_OUTSIDE = Rule(
    "RGS-TFL-005",
    Severity.HIGH,
    "An asset that lies outside of the model",
    "TensorFlow joins the asset's name to the model's folder and gives it to the graph: '..' reaches files of yours.",
    "Do not run this model. Report it to where you got it from.",
    cwe=22,
)

_OUT = re.compile(r"(^|[/\\, ])\.\.([/\\]|$)|(^|, )[/\\~]|(^|, )[A-Za-z]:[\\/]|\w+://")
_FILE_OPERATORS = frozenset(
    "ReadFile WriteFile MatchingFiles DumpFile WriteImageSummary WriteGraphSummary CreateSummaryFileWriter "
    "ExtractFile ReaderReadV2 WholeFileReader WholeFileReaderV2 Save SaveSlices WriteRawProtoSummary TextLineDataset "
    "TextLineReader TextLineReaderV2 TFRecordDataset TFRecordDatasetV2 TFRecordReader TFRecordReaderV2 "
    "FixedLengthRecordDataset FixedLengthRecordDatasetV2 FixedLengthRecordReader FixedLengthRecordReaderV2 SqlDataset "
    "LoadDataset SaveDataset SaveDatasetV2 DatasetToTFRecord SnapshotDataset SnapshotDatasetV2 ImmutableConst "
    "LMDBReader LMDBDataset".split()
)
_NETWORK_OPERATORS = frozenset(
    "RpcCall RpcServer RpcClient DataServiceDataset DataServiceDatasetV2 DataServiceDatasetV3 DataServiceDatasetV4 "
    "RegisterDataset RegisterDatasetV2 GenerateBigQueryReaderPartitions BigQueryReader".split()
)
_OUTSIDE_OPERATORS = frozenset(
    "PyFunc PyFuncStateless EagerPyFunc CacheDataset CacheDatasetV2 CompositeTensorVariantFromComponents".split()
)
_GRAPHS = frozenset({"tf-saved-model", "tf-meta-graph", "tf-graph", "tfjs"})
_KNOWN_CUSTOM = frozenset({"TFLite_Detection_PostProcess", "AudioSpectrogram", "Mfcc"})


class TensorflowFamily:
    """Judges operators by name: a graph cannot do what its operators cannot."""

    name = "tensorflow"
    judges: frozenset[str] = frozenset({"tf-saved-model", "tf-meta-graph", "tf-graph"})
    rules: Sequence[Rule] = (FILE_OPERATOR, OUTSIDE_OPERATOR, CUSTOM_OPERATOR, NETWORK_OPERATOR, ASSET_OUTSIDE)

    def examine(self, site: Site) -> Iterator[Finding]:
        """Findings about one SavedModel, GraphDef, TensorFlow.js or TFLite file."""
        kind = site.format.name if site.format is not None else ""
        if kind not in _GRAPHS and kind != "tflite":
            return
        description = description_of(site)
        if not isinstance(description, Description):
            return
        if _OUT.search(assets := description.metadata.get("assets", "")):
            yield ASSET_OUTSIDE.finding(f"the assets are {assets[:200]}", site.where())
        custom = {name.strip() for name in description.metadata.get("custom_operators", "").split(",")} - {""}
        for operator, count in sorted(description.operators.items()):
            name = operator.removeprefix("Flex")
            if name in _FILE_OPERATORS:
                yield FILE_OPERATOR.finding(f"{operator} occurs {count} times", site.where(), name=operator)
            elif name in _NETWORK_OPERATORS:
                yield NETWORK_OPERATOR.finding(f"{operator} occurs {count} times", site.where(), name=operator)
            elif name in _OUTSIDE_OPERATORS:
                yield OUTSIDE_OPERATOR.finding(f"{operator} occurs {count} times", site.where(), name=operator)
            elif operator in custom and operator not in _KNOWN_CUSTOM:
                yield CUSTOM_OPERATOR.finding(f"{operator} occurs {count} times", site.where(), name=operator)

    def examine_package(self, package: Package, sites: Sequence[Site]) -> Iterator[Finding]:
        """Nothing: graphs are judged one by one."""
        return iter(())
