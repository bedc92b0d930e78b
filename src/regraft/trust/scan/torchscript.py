"""Rules about TorchScript, torch.package, exported programs: operators that reach beyond the tensors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from regraft.package.formats import Description
from regraft.package.package import Package
from regraft.record.evidence import Finding, Severity
from regraft.trust.scan.descriptions import description_of
from regraft.trust.scan.interface import Rule, Site

FILE_OPERATOR = Rule(
    "RGS-TSC-001",
    Severity.HIGH,
    "A TorchScript operator that reaches the file system",
    "aten::save writes and aten::from_file maps files by names that the model chooses.",
    "Do not run this model. Report it to where you got it from.",
    cwe=73,
)
CUSTOM_OPERATOR = Rule(
    "RGS-TSC-002",
    Severity.UNKNOWN,
    "Operators of a library that is not PyTorch's",
    "The model calls native operators that another library must register; what they do cannot be told from here.",
    "Find the library, judge it, then pass --allow NAMESPACE::NAME.",
    cwe=829,
)

_FILE_OPERATORS = frozenset(
    {"aten::save", "aten::from_file", "aten::_load_for_executorch", "aten::load", "aten::set_source"}
)
_KNOWN_NAMESPACES = frozenset(
    "aten prim quantized quantized_decomposed prepacked _quantized torchvision image video torchaudio mkldnn "
    "mkldnn_prepacked metal_prepack vulkan_prepack xnnpack sparse inductor torch dim_order_ops executorch_prim et_vk "
    "llama delegate operator".split()
)
_FORMATS = frozenset({"torchscript", "executorch", "torch-export", "aotinductor", "torch-package"})


class TorchscriptFamily:
    """Judges the operators that a scripted or exported program calls."""

    name = "torchscript"
    judges: frozenset[str] = frozenset({"torchscript", "torch-export", "aotinductor", "torch-package"})
    rules: Sequence[Rule] = (FILE_OPERATOR, CUSTOM_OPERATOR)

    def examine(self, site: Site) -> Iterator[Finding]:
        """Findings about one program."""
        if site.format is None or site.format.name not in _FORMATS:
            return
        description = description_of(site)
        if not isinstance(description, Description):
            return
        for operator in description.operators:
            if operator.split(".")[0] in _FILE_OPERATORS:
                yield FILE_OPERATOR.finding(f"calls {operator}", site.where(), name=operator)
            elif "::" in operator and operator.split("::")[0] not in _KNOWN_NAMESPACES:
                yield CUSTOM_OPERATOR.finding(f"calls {operator}", site.where(), name=operator)

    def examine_package(self, package: Package, sites: Sequence[Site]) -> Iterator[Finding]:
        """Nothing: programs are judged one by one; their Python is the code family's."""
        return iter(())
