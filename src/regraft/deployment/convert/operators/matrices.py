"""Products of matrices."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from regraft.deployment.convert.operators.interface import Family

if TYPE_CHECKING:
    from torch import Tensor

FAMILY = Family()


@FAMILY.maps("MatMul(A, B)")
def _matmul(a: Tensor, b: Tensor) -> Tensor:
    return torch.matmul(a, b)


@FAMILY.maps("Gemm(A, B, C?; alpha=1.0, beta=1.0, transA=0, transB=0, broadcast=1)")
def _gemm(
    a: Tensor,
    b: Tensor,
    c: Tensor | None,
    alpha: float,
    beta: float,
    transA: int,  # noqa: N803  ONNX's names
    transB: int,  # noqa: N803
    broadcast: int,
) -> Tensor:
    a = a.t() if transA else a
    if alpha == beta == 1.0 and c is not None and c.ndim == 1 and a.is_floating_point():
        return torch.nn.functional.linear(a, b if transB else b.t(), c)
    product = torch.matmul(a, b.t() if transB else b)
    product = product if alpha == 1.0 else (product * alpha).to(a.dtype)
    if c is None or beta == 0.0:
        return product
    return product + (c if beta == 1.0 else (c * beta).to(c.dtype))


@FAMILY.maps("Einsum(*Inputs; equation)")
def _einsum(*inputs: Tensor, equation: str) -> Tensor:
    result: Tensor = torch.einsum(equation.replace(" ", ""), *inputs)
    return result


@FAMILY.maps("Det(X)")
def _determinant(x: Tensor) -> Tensor:
    result: Tensor = torch.linalg.det(x)
    return result


@FAMILY.maps("com.microsoft::FusedMatMul(A, B; alpha=1.0, transA=0, transB=0, transBatchA=0, transBatchB=0)")
def _fused_matmul(
    a: Tensor,
    b: Tensor,
    alpha: float,
    transA: int,  # noqa: N803
    transB: int,  # noqa: N803
    transBatchA: int,  # noqa: N803
    transBatchB: int,  # noqa: N803
) -> Tensor:
    a = a.movedim(0, -2) if transBatchA else a
    b = b.movedim(0, -2) if transBatchB else b
    product = torch.matmul(a.mT if transA else a, b.mT if transB else b)
    return product if alpha == 1.0 else product * alpha
