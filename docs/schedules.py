"""The tables of docs/ddpm.md, docs/consistency.md and docs/pf-ode.md: what a network is told at each noise level.

Run: python docs/schedules.py
"""

from __future__ import annotations

import torch
from torch import Tensor

from raycp.maths import (
    closed_form_timestep,
    cosine_alphas_cumprod,
    first_timestep,
    karras_grid,
    nearest_index,
    noise_levels,
)

CIFAR10, IMAGENET64 = (0.25, 0.5, 1.0), (0.05, 0.15, 0.25)
GRIDS = {
    "N = 18, 0.002 to 80 (CIFAR-10)": (18, 80.0, CIFAR10),
    "N = 40, 0.002 to 80 (ImageNet-64)": (40, 80.0, IMAGENET64),
    "N = 8, 0.002 to 2 (configs/digits, configs/cifar10-jpeg)": (8, 2.0, CIFAR10),
}


def steps() -> None:
    """The step of a DDPM, and the noise it holds, pixel units."""
    linear = (1 - torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)).cumprod(dim=0)
    cosine = cosine_alphas_cumprod(4000)
    columns = {
        "cosine, search": (cosine, lambda sigma: first_timestep(cosine, 2 * sigma)),
        "cosine, closed_form": (cosine, lambda sigma: closed_form_timestep(4000, 2 * sigma)),
        "linear, search": (linear, lambda sigma: first_timestep(linear, 2 * sigma)),
    }
    for name, (abar, step) in columns.items():
        for sigma in CIFAR10:
            t = step(sigma)
            print(f"{name:20} sigma {sigma:<5g} step {t:5}  noise {float(noise_levels(abar)[t]) / 2:.5f}")


def times() -> None:
    """The grid time nearest to 2 sigma, model units, and the evaluations of the ODE from there."""
    for name, (num_steps, sigma_max, sigmas) in GRIDS.items():
        grid: Tensor = karras_grid(num_steps, 0.002, sigma_max, 7.0)
        print(f"\n{name}\n  {' '.join(f'{t:.4f}' for t in grid.tolist())}")
        for sigma in sigmas:
            i = nearest_index(grid, 2 * sigma)
            time = float(grid[i])
            print(
                f"  sigma {sigma:<5g} 2 sigma {2 * sigma:<4g} time {time:.4f} ({time / (2 * sigma):.3f} times)"
                f"  PF-ODE: {2 * i + 1} evaluations"
            )


if __name__ == "__main__":
    steps()
    times()
