"""What doctor says of environments of their own and of converters."""

from __future__ import annotations

from regraft.deployment.convert.members import converters
from regraft.workflow.foreign_checks import check_converters, check_environments


def test_what_an_environment_that_is_missing_keeps_from_working_is_listed() -> None:
    checks = {check.name: check for check in check_environments()}
    assert (checks["tensorflow"].state, checks["tensorflow"].fix) == (
        "missing",
        "regraft doctor --environment tensorflow",
    )
    whole, *blocked = check_converters()
    named = {check.name: check for check in blocked}
    assert "onnx_from_tfjs" in named
    assert "onnx_from_torch" not in named
    assert named["onnx_from_tfjs"].message == "not run here: the environment tensorflow was not made"
    assert named["onnx_from_tfjs"].fix == "regraft doctor --environment tensorflow"
    assert whole.message.startswith(f"{len(converters()) - len(blocked)} of {len(converters())} work here")


def test_with_the_environment_they_work(environment) -> None:
    python = environment("tensorflow")
    checks = {check.name: check for check in check_environments()}
    assert checks["tensorflow"].state == "works"
    assert str(python.parents[1]) in checks["tensorflow"].message
    assert "onnx_from_tfjs" not in {check.name for check in check_converters()}
