"""A comparison in words: under which conditions, and what came out, made from its figures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from raycp.config.claims import Claim
from raycp.report.claims import CONFIRMED, CONTRADICTED, CheckedClaim
from raycp.report.conditions import NOT_RECORDED, Conditions, conditions
from raycp.report.findings import Findings
from raycp.report.method_table import Group
from raycp.report.numerals import exact
from raycp.report.quality import CheckedMetric, named
from raycp.report.results import RunLike, read_sigmas
from raycp.report.summary import indices_in_words, listed


@dataclass(frozen=True)
class Condition:
    """One condition; `others` are the methods of which it is not what is true of most."""

    name: str
    value: str
    others: tuple[tuple[str, str], ...]
    """Names of methods, and what it is for them."""


def shared_conditions(runs: Sequence[RunLike]) -> list[Condition]:
    """What a figure hangs on beside the method itself, each said once for all methods where they share it."""
    said = {run.name: _said(run, conditions(run)) for run in runs}
    names = next(iter(said.values()))
    return [_condition(name, {run: of_run[name] for run, of_run in said.items()}) for name in names]


def _said(run: RunLike, of: Conditions) -> dict[str, str]:
    sigmas = ", ".join(exact(results.sigma) for results in read_sigmas(run))
    which = f": {indices_in_words(of.image_index)}" if of.image_index else ""
    return {
        "images": f"{run.num_images:,}{which}",
        "data": of.data,
        "classifier": of.classifier,
        "σ": f"{sigmas} (pixel units)",
        "N0": _number(of.num_selection),
        "N": of.samples_in_words.replace("N = ", ""),
        "α": NOT_RECORDED if of.alpha is None else f"{exact(of.alpha)} per certificate",
        "rule": f"{of.rule}: {of.bound_in_words}" if of.rule else NOT_RECORDED,
        "wrong classes": "not estimated (skip_wrong)" if of.skip_wrong else "estimated like right ones",
        "noise": of.noise_in_words,
        "noise seed": NOT_RECORDED if of.seed is None else str(of.seed),
        "device, dtype": of.device,
    }


def _condition(name: str, values: Mapping[str, str]) -> Condition:
    usual = Counter(values.values()).most_common(1)[0][0]
    others: dict[str, list[str]] = {}
    for method, value in values.items():
        if value != usual:
            others.setdefault(value, []).append(method)
    return Condition(name, usual, tuple((listed(methods), value) for value, methods in others.items()))


def _number(number: int | None) -> str:
    return NOT_RECORDED if number is None else f"{number:,}"


@dataclass(frozen=True)
class Outcome:
    """How the claims ended that ended alike."""

    says: str
    claims: tuple[str, ...]


def subject(found: Findings) -> str:
    """What was compared, on which images, at which noise."""
    said = {condition.name: condition for condition in shared_conditions(found.runs)}
    images = Counter(run.num_images for run in found.runs).most_common(1)[0][0]
    others = [f"{run.name}: {run.num_images:,}" for run in found.runs if run.num_images != images]
    number = len(found.runs)
    classifier, data = said["classifier"], said["data"]
    return (
        f"{number} {'method' if number == 1 else 'methods'} on {images:,} images"
        f"{f' ({listed(others)})' if others else ''} of {data.value}"
        f"{'' if classifier.others else f', in front of the classifier {classifier.value}'}, at σ = {said['σ'].value}."
    )


def claim_outcomes(found: Findings) -> list[Outcome]:
    """The claims about certified accuracy, sorted by what was found of them; every one in one place."""
    return _outcomes([(claim, found.checked.items) for claim in found.claims], "σ and ε")


def metric_outcomes(found: Findings) -> list[Outcome]:
    """The claims about purified images, likewise."""
    quality = found.quality
    return _outcomes([(claim, quality.checked) for claim in quality.claims], "σ") if quality else []


def _outcomes(
    judged: Sequence[tuple[Claim, Sequence[CheckedClaim | CheckedMetric]]], at: str
) -> list[Outcome]:
    places: dict[str, list[str]] = {
        "confirmed wherever checked": [],
        "confirmed at some σ and ε, undecided at the others": [],
        "confirmed at some σ and ε, the other way at others": [],
        "undecided wherever checked": [],
        "the other way at some σ and ε, undecided at the others": [],
        "the other way wherever checked": [],
        "not checked": [],
    }
    for claim, items in judged:
        verdicts = [item.verdict for item in items if item.claim is claim]
        places[_place(verdicts)].append(f"{claim.says} [{named(claim)}]")
    return [Outcome(says.replace("σ and ε", at), tuple(claims)) for says, claims in places.items() if claims]


def _place(verdicts: Sequence[str]) -> str:
    yes, no = CONFIRMED in verdicts, CONTRADICTED in verdicts
    if not verdicts:
        return "not checked"
    if yes and no:
        return "confirmed at some σ and ε, the other way at others"
    if not (yes or no):
        return "undecided wherever checked"
    word = "confirmed" if yes else "the other way"
    return (
        f"{word} wherever checked"
        if len(set(verdicts)) == 1
        else f"{word} at some σ and ε, undecided at the others"
    )


def leaders(groups: Sequence[Group], radii: Sequence[float]) -> list[str]:
    """A sentence for each sigma: which method has the highest certified accuracy at which radius."""
    sentences = []
    for group in groups:
        if group.sigma is None or not group.best_images:
            continue
        led: dict[str, list[str]] = {}
        for column, eps in enumerate(radii):
            best = [
                (row.method, row.accuracies[column].text) for row in group.rows if row.accuracies[column].best
            ]
            if best:
                who = listed([name for name, _ in best])
                led.setdefault(who, []).append(f"{best[0][1]}% at ε = {exact(eps)}")
        if led:
            who_where = listed([f"{who} ({', '.join(where)})" for who, where in led.items()])
            sentences.append(
                f"At σ = {exact(group.sigma)}, on the same {group.best_images:,} images, the highest certified "
                f"accuracy is that of {who_where}."
            )
    return sentences


def cost_sentence(found: Findings) -> str:
    """Between which methods the device time of a sample lies; empty where fewer than two recorded it."""
    seconds: dict[str, float] = {}
    for run in found.runs:
        rows = [row.row for row in found.rows if row.row.run == run.name and row.row.sigma is not None]
        samples, time = (sum(getattr(row, key) or 0 for row in rows) for key in ("samples", "seconds"))
        if samples and time:
            seconds[run.name] = time / samples
    if len(seconds) < 2:
        return ""
    low, high = min(seconds, key=seconds.__getitem__), max(seconds, key=seconds.__getitem__)
    return (
        f"A sample takes between {1e3 * seconds[low]:.3g} ms ({low}) and {1e3 * seconds[high]:.3g} ms ({high}) of "
        f"device time, a factor of {seconds[high] / seconds[low]:.2g}."
    )
