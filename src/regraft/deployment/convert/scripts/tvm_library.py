"""What the scripts for TVM share: a module of Relax becomes a library for this processor, which says what it is."""

import json
from pathlib import Path

from regraft.package.formats.tvm import SECTION
from regraft.runtime.processor import INSTRUCTION_SETS, architecture, instruction_sets

_SAID = 600


def written(module, out, options):
    """Compile, link, and say in a section of the library what its ports and its target are.

    Raises:
        ValueError: TVM refuses the module; what it says first.
    """
    import tvm
    from tvm import relax
    from tvm_schedule import scheduled

    target, stated_target = _here(tvm)
    stated = {**json.loads(options["signature"]), "target": stated_target}
    note = Path(out).parent / "stated.s"
    note.write_text(_assembly(json.dumps(stated)))
    try:
        with target:
            lowered = tvm.ir.transform.Sequential(
                [
                    relax.transform.DecomposeOpsForInference(),
                    relax.transform.CanonicalizeBindings(),
                    relax.get_pipeline("zero"),
                ]
            )(module)
            lowered = scheduled(lowered)
        tvm.compile(lowered, target=target).export_library(str(Path(out) / "model.so"), addons=[str(note)])
    except Exception as error:
        raise refusal(error) from error
    return {"model": "model.so", "notes": [], "versions": {"apache-tvm": tvm.__version__}}


def refusal(error, operator=""):
    """What TVM says, as the error that a refusal is: of a kind of its own where an operator is missing altogether."""
    said = " ".join(str(error).split())[:_SAID] or type(error).__name__
    is_missing = isinstance(error, NotImplementedError) or said.startswith("Unsupported function types")
    return (NotImplementedError if is_missing else ValueError)(f"{operator}: {said}" if operator else said)


def _here(tvm):
    """This processor as LLVM knows it, without the instructions that a hypervisor hides, which LLVM would use."""
    from tvm.target import codegen

    triple, cpu = codegen.llvm_get_system_triple(), codegen.llvm_get_system_cpu()
    names = INSTRUCTION_SETS.get(architecture(triple.partition("-")[0]), {})
    known = codegen.llvm_get_cpu_features(tvm.target.Target({"kind": "llvm", "mtriple": triple, "mcpu": cpu}))
    used = sorted(feature for feature in known if feature in names)
    there = instruction_sets()
    hidden = [feature for feature in used if names[feature] not in there]
    mattr = {"mattr": [f"-{feature}" for feature in hidden]} if hidden else {}
    target = tvm.target.Target({"kind": "llvm", "mtriple": triple, "mcpu": cpu, **mattr})
    features = [names[feature] for feature in used if feature not in hidden]
    return target, {"triple": triple, "cpu": cpu, "features": features}


def _assembly(text):
    """A section that is never loaded into memory."""
    content = ", ".join(str(byte) for byte in text.encode())
    return f'.section {SECTION},"",@progbits\n.byte {content}\n'
