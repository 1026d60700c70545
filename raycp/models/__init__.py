"""Published weights and formats to denoisers and classifiers: the only code that knows their conventions.

diffusers and timm are imported by the functions that need them: each takes seconds.
"""

from raycp.models.base_classifier import Classifier
from raycp.models.bundle import Bundle, hashes
from raycp.models.check import check_core, check_models
from raycp.models.classifier import build_classifier, classifier_input, read_classifier
from raycp.models.classifier_directory import save_classifier
from raycp.models.denoiser import Denoiser, Parametrisation
from raycp.models.denoiser_directory import save_denoiser
from raycp.models.diffusers_denoiser import build_denoiser, read_denoiser
from raycp.models.python_purifier import build_python_purifier
from raycp.models.read import read_model, read_purifier
from raycp.models.residual_classifier import ResidualClassifier
from raycp.models.stored_classifier import save_stored_classifier

__all__ = [
    "Bundle",
    "Classifier",
    "Denoiser",
    "Parametrisation",
    "ResidualClassifier",
    "build_classifier",
    "build_denoiser",
    "build_python_purifier",
    "check_core",
    "check_models",
    "classifier_input",
    "hashes",
    "read_classifier",
    "read_denoiser",
    "read_model",
    "read_purifier",
    "save_classifier",
    "save_denoiser",
    "save_stored_classifier",
]
