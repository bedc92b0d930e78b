"""A shared library from an exported program, by AOTInductor: torch's own compiler for use without Python."""

from __future__ import annotations

import io
import os
import shutil
import tempfile
import warnings
from pathlib import Path
from typing import Any

from regraft.deployment.convert.interface import Hop, Source
from regraft.deployment.convert.obstacles import missing
from regraft.deployment.convert.proving import prove
from regraft.errors import Unsupported


class AotInductorFromTorchExport:
    """Compiles exported programs for the processor at hand."""

    name = "aotinductor_from_torch_export"
    source = "torch-export"
    target = "aotinductor"
    cost = 4

    def obstacle(self) -> str:
        """PyTorch must be installed, and a compiler of C++."""
        if absent := missing("torch", extra="torch"):
            return absent
        compiler = os.environ.get("CXX", "g++")
        return "" if shutil.which(compiler) else f"the compiler {compiler} is not installed: apt-get install g++"

    def convert(self, source: Source) -> Hop:
        """Compile the program, and run the library at every size of the examples.

        Raises:
            Unsupported: AOTInductor cannot compile it; the message is its own.
        """
        import torch

        from regraft.runtime.interface import Signature
        from regraft.runtime.stated import stated_signature
        from regraft.runtime.torch_aot import METADATA, AotInductorModel
        from regraft.runtime.torch_export import TorchExportModel
        from regraft.runtime.torch_tensors import tensor_from_array

        model = source.loaded()
        if not isinstance(model, TorchExportModel):
            raise Unsupported(f"a {type(model).__name__} is no exported program", where=source.where)
        program = torch.export.load(io.BytesIO(source.content()))
        feeds = source.feeds[0]
        named = {port.name: tensor_from_array(feeds[port.name], port.dtype) for port in model.signature.inputs}
        program.example_inputs = ((), named)  # the compiler looks at them, and files do not keep them
        stated = stated_signature(Signature(model.signature.inputs), model.effective_precision)
        with tempfile.TemporaryDirectory(prefix="regraft-") as folder:
            path = Path(folder) / "model.pt2"
            _compile(program, path, {"aot_inductor.metadata": {METADATA: stated}}, source.where)
            content = path.read_bytes()
        names = {port.name: port.name for port in model.signature.inputs}
        prove(AotInductorModel(content, where=source.where), model, source.feeds, names)
        note = "compiled for this processor and this torch; native code, which a scan cannot pass"
        versions = {"torch": str(torch.__version__)}
        return Hop({"model.pt2": content}, "torch-aot", (note,), versions, precision=None, is_compiled=True)


def _compile(program: Any, path: Path, options: dict[str, Any], where: str) -> None:
    import torch._inductor

    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            torch._inductor.aoti_compile_and_package(program, package_path=str(path), inductor_configs=options)
    except Exception as error:
        said = " ".join(str(error).split())[:500]
        raise Unsupported(f"AOTInductor cannot compile the program: {said}", where=where) from error
