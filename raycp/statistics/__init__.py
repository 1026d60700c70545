"""Every certified number comes from here: binomial bounds, radii, accuracies, sequential tests. float64.

Notation: of n independent noisy copies of an image, n_A were given class A; p_A is the probability that a copy is
given class A. All bounds are rounded outwards, radii downwards, so that float64 never claims more than the theorem.
"""

from raycp.statistics.accuracy import (
    average_certified_radius,
    certified_accuracy,
    certified_accuracy_lower_bound,
    paired_difference,
    round_down,
    share_interval,
)
from raycp.statistics.binomial import clopper_pearson_lower, clopper_pearson_upper
from raycp.statistics.cascade import CascadeCertificate, Stage, certify_cascade
from raycp.statistics.certificates import (
    ABSTAIN,
    Bound,
    Certificate,
    certified_radius,
    certify,
    largest_certifiable_radius,
    predict,
    select_class,
)
from raycp.statistics.composition import (
    CompositeCertificate,
    certify_composition,
    compose,
    normalised_entropy,
    predict_composition,
)

__all__ = [
    "ABSTAIN",
    "Bound",
    "CascadeCertificate",
    "Certificate",
    "CompositeCertificate",
    "Stage",
    "average_certified_radius",
    "certified_accuracy",
    "certified_accuracy_lower_bound",
    "certified_radius",
    "certify",
    "certify_cascade",
    "certify_composition",
    "clopper_pearson_lower",
    "clopper_pearson_upper",
    "compose",
    "largest_certifiable_radius",
    "normalised_entropy",
    "paired_difference",
    "predict",
    "predict_composition",
    "round_down",
    "select_class",
    "share_interval",
]
