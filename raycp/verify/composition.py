"""What the counts of one (sigma, image) certify of a composition: the row of the table, column by column.

The three cases are written out here once more; of what made the table it shares `raycp.statistics.certify` alone.
"""

from __future__ import annotations

from raycp.statistics import ABSTAIN, certify
from raycp.verify.rules import UNDECIDED, Prefix, Row
from raycp.verify.terms import Terms

_CHOICES = ("core", "certified")


def composite_row_of(
    terms: Terms, sigma: float, label: int, selection: Prefix, estimation: Prefix, core: Prefix
) -> Row:
    """The row that follows from counts over 2K outcomes: class c with choice core is outcome c, else K + c."""
    protocol, K = terms.protocol, terms.num_classes
    selected_2K, answer_2K = selection(protocol.num_selection), core(1)
    if selected_2K is None or answer_2K is None:
        return _row(UNDECIDED)
    core_class = int(answer_2K.argmax()) % K
    choice_2 = selected_2K[:K].sum(), selected_2K[K:].sum()
    classes_K = selected_2K[:K] + selected_2K[K:]
    choice = int(choice_2[1] > choice_2[0])
    certified_class = int(classes_K.argmax())
    selected = certified_class if choice else core_class
    known = {
        "selected": selected, "core_class": core_class, "certified_class": certified_class,
        "choice": _CHOICES[choice], "n0": protocol.num_selection, "samples": protocol.num_selection + 1,
    }  # fmt: skip
    if protocol.skip_wrong and selected != label:
        return _row("skipped_wrong", **known)
    estimated_2K = estimation(protocol.num_estimation)
    if estimated_2K is None:
        return _row(UNDECIDED, **known)

    alpha, slack = protocol.alpha / 2, terms.slack[sigma]
    of_choice = certify(
        selected_2K.reshape(2, K).sum(1), estimated_2K.reshape(2, K).sum(1), sigma, alpha, slack=slack
    )
    of_class = certify(classes_K, estimated_2K[:K] + estimated_2K[K:], sigma, alpha, slack=slack)
    case, predicted, radius = "none", ABSTAIN, 0.0
    if of_choice.predicted == 1:
        if of_class.predicted != ABSTAIN:
            case, predicted = "certified", of_class.predicted
            radius = min(of_choice.radius, of_class.radius)
    elif of_choice.predicted == 0:
        case, predicted = "core", core_class
    elif of_class.predicted == core_class:
        case, predicted = "agreement", core_class
    certified = predicted != ABSTAIN
    return _row(
        "complete",
        **known
        | {
            "case": case, "predicted": predicted, "radius": radius, "correct": certified and predicted == label,
            "grid_radius": max([r for r in terms.radii if r <= radius], default=None) if certified else None,
            "p_A_lower": of_class.p_A_lower, "p_B_upper": of_class.p_B_upper, "n_A": of_class.n_A, "n": of_class.n,
            "n_S": of_choice.n_A, "p_S_lower": of_choice.p_A_lower,
            "samples": protocol.num_selection + protocol.num_estimation + 1,
        },
    )  # fmt: skip


def _row(stop_reason: str, **known: object) -> Row:
    """What is not known is abstention and bounds that say nothing."""
    nothing: Row = {
        "selected": -1, "predicted": ABSTAIN, "radius": 0.0, "grid_radius": None, "p_A_lower": 0.0, "p_B_upper": 1.0,
        "n_A": 0, "n": 0, "n0": 0, "correct": False, "samples": 0, "case": "none", "core_class": -1,
        "certified_class": -1, "choice": "unknown", "n_S": 0, "p_S_lower": 0.0,
    }  # fmt: skip
    return nothing | known | {"stop_reason": stop_reason}
