"""Muon against its formula, PyTorch's own for matrices, and singular values."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from raycp.training.muon import Muon, orthogonal


@pytest.mark.parametrize("shape", [(24, 40), (40, 24), (16, 16)])
def test_singular_values_come_near_one_and_singular_vectors_stay(shape: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(0)
    matrix = torch.randn(shape, generator=generator, dtype=torch.float64)
    left, values, right = torch.linalg.svd(matrix, full_matrices=False)
    among = left.T @ orthogonal(matrix) @ right.T  # diagonal if the singular vectors are the same
    diagonal = among.diagonal()
    torch.testing.assert_close(among, diagonal.diag(), rtol=0, atol=1e-9)
    large = values > 0.05 * values.max()
    assert large.sum() >= len(values) - 1
    assert diagonal[large].min() > 0.6 and diagonal.max() < 1.25


def test_a_matrix_of_zeros_stays() -> None:
    assert torch.equal(orthogonal(torch.zeros(3, 5)), torch.zeros(3, 5))


@pytest.mark.parametrize("shape", [(12, 20), (20, 12)])
def test_matrices_move_as_by_pytorch_which_computes_in_bfloat16(shape: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(1)
    start = torch.randn(shape, generator=generator)
    ours, theirs = nn.Parameter(start.clone()), nn.Parameter(start.clone())
    mine = Muon([ours], lr=0.01, momentum=0.9, weight_decay=0.1)
    other = torch.optim.Muon(
        [theirs], lr=0.01, momentum=0.9, weight_decay=0.1, nesterov=True, adjust_lr_fn="match_rms_adamw"
    )
    for _ in range(4):
        ours.grad = torch.randn(shape, generator=generator)
        theirs.grad = ours.grad.clone()
        mine.step()
        other.step()
    moved, difference = ours - start, ours - theirs
    assert difference.norm() < 0.02 * moved.norm()


def test_a_step_of_a_kernel_is_that_of_its_matrix_of_filters() -> None:
    generator = torch.Generator().manual_seed(2)
    start = torch.randn(6, 2, 3, 3, generator=generator)
    kernel, matrix = nn.Parameter(start.clone()), nn.Parameter(start.flatten(1).clone())
    kernel.grad = torch.randn(start.shape, generator=generator)
    matrix.grad = kernel.grad.flatten(1)
    Muon([kernel], lr=0.1, momentum=0.5, weight_decay=0.2).step()
    Muon([matrix], lr=0.1, momentum=0.5, weight_decay=0.2).step()
    assert torch.equal(kernel.flatten(1), matrix)
    # The first mean is half the gradient, so the Nesterov momentum points along the gradient.
    expected = 0.98 * start.flatten(1) - 0.1 * 0.2 * 18**0.5 * orthogonal(matrix.grad)
    torch.testing.assert_close(matrix.detach(), expected, rtol=1e-4, atol=1e-5)


def test_parameters_without_a_gradient_stay() -> None:
    kernel = nn.Parameter(torch.ones(2, 2, 3, 3))
    optimizer = Muon([kernel], lr=0.1, weight_decay=0.5)
    optimizer.step()
    assert torch.equal(kernel, torch.ones(2, 2, 3, 3))
    assert not optimizer.state
