"""regraft bundle: hand it over by standards that exist."""

from __future__ import annotations

from pathlib import Path

import click
import msgspec

from regraft.cli.options import Settings, folder_options
from regraft.cli.output import Shown, each


@click.command("bundle")
@click.argument("ref", metavar="REF")
@click.option("--as", "layout", required=True, help="plain, triton, ovms, mlflow or oci.")
@click.option("--name", help="Of the model on the server; default: the package's.")
@click.option("--runtime", help="onnxruntime or openvino; default: the first that can load it.")
@click.option("--feeds", type=click.Path(path_type=Path), help="File of arrays to run it on; plain carries them.")
@folder_options
def command(
    ref: str, layout: str, name: str | None, runtime: str | None, feeds: Path | None, settings: Settings
) -> int:
    """A package in the layout that a server or registry expects (-o FOLDER), with evidence, licence and digests.

    \b
    plain   a folder with a runner of a few lines; MLServer serves it as it is
    triton  a model repository with config.pbtxt
    ovms    a model repository of OpenVINO Model Server
    mlflow  an MLflow model: onnx and python_function
    oci     a CNCF ModelPack artifact, as an OCI image layout; takes any package

    \b
    exit 0  bundled
    exit 1  refused: the scan found danger
    exit 2  the layout does not hold this package; the message names the command that makes one that it holds

    \b
    regraft bundle ./minilm-onnx --as triton -o ./minilm-triton
    """
    from regraft.workflow.bundle import bundle

    out = settings.output or Path(f"{Path(ref.partition('#')[0].rstrip('/')).name or 'model'}-{layout}")

    def examine(one: str) -> Shown:
        return Shown(
            bundle(
                one, layout=layout, out=out, name=name, runtime=runtime, feeds=feeds,
                store=settings.store, offline=settings.offline,
            )
        )  # fmt: skip

    return each([ref], examine, msgspec.structs.replace(settings, output=None))
