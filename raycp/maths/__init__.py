"""Noise grids, preconditioning and solver steps: pure functions of tensors, without files.

Noise levels here are in model units: images in [-1, 1], `sigma_model` is the standard deviation of the noise there.
"""

from raycp.maths.ddpm import (
    closed_form_time,
    closed_form_timestep,
    cosine_alphas_cumprod,
    first_timestep,
    learned_log_variance,
    linear_alphas_cumprod,
    noise_levels,
    posterior_mean,
    predicted_x0,
    step_variances,
)
from raycp.maths.noise_grid import karras_grid, nearest_index
from raycp.maths.preconditioning import (
    Scalings,
    consistency_scalings,
    edm_scalings,
    preconditioned,
)
from raycp.maths.probability_flow import heun_step, solve_to_zero

__all__ = [
    "Scalings",
    "closed_form_time",
    "closed_form_timestep",
    "consistency_scalings",
    "cosine_alphas_cumprod",
    "edm_scalings",
    "first_timestep",
    "heun_step",
    "karras_grid",
    "learned_log_variance",
    "linear_alphas_cumprod",
    "nearest_index",
    "noise_levels",
    "posterior_mean",
    "preconditioned",
    "predicted_x0",
    "solve_to_zero",
    "step_variances",
]
