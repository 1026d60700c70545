"""The section `evaluate` of a run's configuration: what `raycp evaluate` measures, beside the images themselves."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from raycp.config.base import Float, Frozen, Location
from raycp.config.data import Selection
from raycp.config.models import ClassifierConfig
from raycp.config.perceptual import Backbone


class InceptionFeatures(Frozen):
    """The 2048 features of the Inception network of the published FID figures."""

    kind: Literal["inception"]
    weights: Location
    """pt_inception-2015-12-05-6726825d.pth of pytorch-fid, or weights-inception-2015-12-05-6726825d.pth of
    torch-fidelity: the same tensors under the same names."""


class ClassifierFeatures(Frozen):
    """What a classifier's last linear layer sees."""

    kind: Literal["classifier"]
    classifier: ClassifierConfig | None = None
    """null: the run's own classifier."""


Features = Annotated[InceptionFeatures | ClassifierFeatures, Field(discriminator="kind")]


class EvaluateProtocol(Frozen):
    """What `raycp evaluate` measures of purified images."""

    select: Selection | None = None
    """Which images to measure, if others than those of data.select; {}: all."""
    draws: int = Field(1, ge=1)
    """Noisy samples of each image at each sigma."""
    features: Features | None = None
    """Network for the FID between purified and clean images; null: no FID."""
    perceptual: Backbone | None = None
    """LPIPS between purified and clean images; null: none."""
    transport_images: int = Field(1000, ge=0, le=5000)
    """Most images in the optimal transport between purified and clean ones, the first ones of the run; 0: none."""
    bootstrap: int = Field(1000, ge=100)
    """Bootstrap samples of the images."""
    confidence: Annotated[Float, Field(gt=0.5, lt=1)] = 0.95
    """Of each interval by itself."""
