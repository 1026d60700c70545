"""A classifier and a purifier of one's own, for digits of 8 x 8 pixels."""

import torch
from torch import Tensor, nn


def classifier(num_pixels: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(num_pixels, 64), nn.ReLU(), nn.Linear(64, 10))


class WienerFilter(nn.Module):
    """The best linear estimate of an image in Gaussian noise: mean + C (C + sigma^2)^-1 (x - mean)."""

    def __init__(self, num_pixels: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(num_pixels))
        self.register_buffer(
            "variances", torch.ones(num_pixels)
        )  # eigenvalues of the covariance C of clean images
        self.register_buffer("axes", torch.eye(num_pixels))  # its eigenvectors, one a column

    def forward(self, x: Tensor, sigma: float) -> Tensor:
        gain = self.variances / (self.variances + sigma**2)
        clean = self.mean + ((x.flatten(1) - self.mean) @ self.axes * gain) @ self.axes.T
        return clean.reshape(x.shape)
