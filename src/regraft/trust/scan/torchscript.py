"""Rules about TorchScript, torch.package, exported programs: operators that reach beyond the tensors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from regraft.package.formats import Description
from regraft.package.package import Package
from regraft.record.evidence import Finding, Severity
from regraft.trust.scan.descriptions import description_of
from regraft.trust.scan.interface import Rule, Site
from regraft.trust.scan.pickle_dangers import danger_of

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
PYTHON_FUNCTION = Rule(
    "RGS-TSC-003",
    Severity.CRITICAL,
    "An exported program that calls Python in place of an operator",
    "torch looks a node's target up in the modules torch, operator and math, and in whatever these import: the program "
    "calls it when it is run, with the arguments that its author wrote down.",
    "Do not run this program. Report it to where you got it from.",
    cwe=94,
)

_FILE_OPERATORS = frozenset(
    {"aten::save", "aten::from_file", "aten::_load_for_executorch", "aten::load", "aten::set_source"}
)
_KNOWN_NAMESPACES = frozenset(
    "aten prim quantized quantized_decomposed prepacked _quantized torchvision image video torchaudio mkldnn "
    "mkldnn_prepacked metal_prepack vulkan_prepack xnnpack sparse inductor torch dim_order_ops executorch_prim et_vk "
    "llama delegate operator".split()
)
_LOOKED_UP = {"_operator": "operator", "operator": "operator", "math": "math", "torch": "torch"}
"""Namespace of a node's target → the module that torch 2.13 looks it up in (`deserialize_operator`)."""
_ON_NUMBERS = frozenset(
    {f"_operator::{name}" for name in "eq ne le ge lt gt neg pos mul add sub floordiv mod pow truediv and_ or_".split()}
    | {f"_operator::{name}" for name in "lshift rshift getitem".split()}
    | {f"torch::sym_{name}" for name in "not int float ite max min sqrt sum".split()}
    | {"math::trunc", "math::ceil", "math::floor"}
)
"""Functions that compute with the sizes of tensors and do nothing else; programs with free sizes are full of them.
Source: torch 2.13, torch/_export/serde/serialize.py, _SYM_OPS."""
_OF_BATCHES = frozenset(
    f"torch::_functorch.predispatch.{name}"
    for name in "_add_batch_dim _remove_batch_dim _vmap_increment_nesting _vmap_decrement_nesting "
    "lazy_load_decompositions".split()
)
"""What `torch.func.vmap` leaves in a program: axes are marked as batches, and torch's own rules for them are loaded.
Source: torch 2.13, torch/_functorch/predispatch.py."""
_WITH_GRAPHS = frozenset(
    f"higher_order::{name}"
    for name in "cond while_loop scan map_impl associative_scan invoke_subgraph wrap_with_set_grad_enabled "
    "wrap_with_autocast".split()
)
"""Operators that call graphs of the file, whose own operators are judged like all others, and nothing else."""
_EXPORTED = frozenset({"torch-export", "aotinductor"})
_FORMATS = frozenset({"torchscript", "executorch", "torch-export", "aotinductor", "torch-package"})


class TorchscriptFamily:
    """Judges the operators that a scripted or exported program calls."""

    name = "torchscript"
    judges: frozenset[str] = frozenset({"torchscript", "torch-export", "aotinductor", "torch-package"})
    rules: Sequence[Rule] = (FILE_OPERATOR, CUSTOM_OPERATOR, PYTHON_FUNCTION)

    def examine(self, site: Site) -> Iterator[Finding]:
        """Findings about one program."""
        if site.format is None or site.format.name not in _FORMATS:
            return
        description = description_of(site)
        if not isinstance(description, Description):
            return
        is_exported = site.format.name in _EXPORTED
        for operator in description.operators:
            if is_exported and operator.split("::")[0] in _LOOKED_UP:
                yield from _looked_up(operator, site)
            elif operator.split(".")[0] in _FILE_OPERATORS:
                yield FILE_OPERATOR.finding(f"calls {operator}", site.where(), name=operator)
            elif is_exported and operator in _WITH_GRAPHS:
                continue
            elif "::" in operator and operator.split("::")[0] not in _KNOWN_NAMESPACES:
                yield CUSTOM_OPERATOR.finding(f"calls {operator}", site.where(), name=operator)

    def examine_package(self, package: Package, sites: Sequence[Site]) -> Iterator[Finding]:
        """Nothing: programs are judged one by one; their Python is the code family's."""
        return iter(())


def _looked_up(operator: str, site: Site) -> Iterator[Finding]:
    """A target that torch finds by its name in a module of Python."""
    if operator in _ON_NUMBERS or operator in _OF_BATCHES:
        return
    namespace, _, name = operator.partition("::")
    if name.removeprefix("ops.").replace(".", "::", 1).split(".")[0] in _FILE_OPERATORS:
        yield FILE_OPERATOR.finding(f"calls {operator}", site.where(), name=operator)
        return
    effect = danger_of(_LOOKED_UP[namespace], name)
    if effect is None:
        yield CUSTOM_OPERATOR.finding(f"calls {operator}, which is no operator", site.where(), name=operator)
    else:
        yield PYTHON_FUNCTION.finding(f"calls {operator}: {effect}", site.where(), name=operator)
