"""What a published log proves of itself: its columns against each other, its radii against N and alpha."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from raycp.errors import ConfigError
from raycp.logs.correct_column import correct_column, some_lines
from raycp.logs.lines import UNDECIDED, Floats, LogLines
from raycp.logs.protocol import (
    Inference,
    PrintedRadii,
    Protocol,
    infer,
    largest_radius,
    misfits,
    radii_behind,
    telling_from,
)
from raycp.report.numerals import exact
from raycp.report.summary import indices_in_words

_MOST_SHOWN = 8


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        verdict: `FAILED` where the log contradicts itself or a claim, `undecided` where it does not tell.
        name: of what was looked at.
        text: one sentence or more.
    """

    verdict: Literal["ok", "FAILED", "note", "undecided"]
    name: str
    text: str


def audit_log(
    lines: LogLines,
    sigma: float | None = None,
    num_estimation: int | None = None,
    alpha: float | None = None,
) -> list[Finding]:
    """Look at everything that can be checked.

    Args:
        lines: the log.
        sigma: noise level, pixel units; without it nothing is said of N and alpha.
        num_estimation, alpha: as claimed.

    Raises:
        ConfigError: a claim without sigma.
    """
    if sigma is None and (num_estimation is not None or alpha is not None):
        raise ConfigError("N and alpha can be checked only with the noise level of the log: give --sigma.")
    findings = [_lines(lines)]
    if not len(lines):
        return findings
    findings += [_index(lines), _correct(lines)]
    if lines.radius_M is None or lines.half_unit_M is None:
        return [*findings, Finding("note", "radius", "a log of predictions: there are no radii to judge.")]
    findings += [_abstentions(lines, lines.radius_M)]
    return findings + _protocol(lines, lines.radius_M, lines.half_unit_M, sigma, num_estimation, alpha)


def _lines(lines: LogLines) -> Finding:
    shape = f"columns {', '.join(lines.columns)}" + (
        "" if lines.header else " (taken from the shape: no header)"
    )
    if not len(lines) and not lines.damaged:
        return Finding("FAILED", "lines", f"a header and no images: aborted, or empty; {shape}.")
    if lines.damaged:
        shown = "; ".join(lines.damaged[:3]) + ("; ..." if len(lines.damaged) > 3 else "")
        return Finding(
            "FAILED", "lines", f"{len(lines.damaged):,} cannot be read, {len(lines):,} can: {shown}; {shape}."
        )
    return Finding("ok", "lines", f"{len(lines):,}, all readable; {shape}.")


def _index(lines: LogLines) -> Finding:
    index_M = lines.image_index_M
    if index_M is None:
        return Finding("undecided", "idx", "there is no idx: neither gaps nor repeated images would show.")
    distinct, counts = np.unique(index_M, return_counts=True)
    if len(distinct) < len(index_M):
        again = distinct[counts > 1]
        repeated = lines.line_M[np.isin(index_M, again)]
        return Finding(
            "FAILED", "idx", f"{len(again):,} images have more than one line: {some_lines(repeated)}."
        )
    order = "" if np.array_equal(distinct, index_M) else " The lines are not in its order."
    steps, times = np.unique(np.diff(distinct), return_counts=True)
    step = int(steps[times.argmax()]) if len(steps) else 1
    expected = np.arange(distinct[0], distinct[-1] + 1, step)
    missing, others = np.setdiff1d(expected, distinct), np.setdiff1d(distinct, expected)
    if len(missing) or len(others):
        return Finding(
            "note",
            "idx",
            f"{distinct[0]} to {distinct[-1]}, mostly every {step}: {len(missing):,} of these are missing"
            f"{_examples(missing)}, {len(others):,} lie between{_examples(others)}.{order}",
        )
    return Finding("ok", "idx", f"{indices_in_words(distinct)}, none missing or repeated.{order}")


def _examples(index: npt.NDArray[np.int64]) -> str:
    if not len(index):
        return ""
    return f" ({', '.join(map(str, index[:3]))}{', ...' if len(index) > 3 else ''})"


def _correct(lines: LogLines) -> Finding:
    found = correct_column(lines)
    verdict: Literal["ok", "FAILED", "note"] = "FAILED"
    if found.verdict == "agrees":
        verdict = "ok"
    elif found.verdict == "absent":
        verdict = "note"
    return Finding(verdict, "correct", found.in_words)


def _abstentions(lines: LogLines, radius_M: Floats) -> Finding:
    abstained_M = lines.predicted_M < 0
    odd = lines.line_M[abstained_M & (radius_M > 0)]
    if len(odd):
        return Finding("FAILED", "abstained", f"a radius beside an abstention in {some_lines(odd)}.")
    undecided = int((lines.predicted_M == UNDECIDED).sum())
    of_these = f" ({undecided:,} of them {UNDECIDED}, undecided)" if undecided else ""
    return Finding("ok", "abstained", f"{int(abstained_M.sum()):,} images{of_these}, all with radius 0.")


def _protocol(
    lines: LogLines,
    radius_M: Floats,
    half_unit_M: Floats,
    sigma: float | None,
    num_estimation: int | None,
    alpha: float | None,
) -> list[Finding]:
    if sigma is None:
        return [
            Finding(
                "undecided", "N, alpha", "give --sigma: a larger sigma with a larger N has as fine radii."
            )
        ]
    of_M = lines.predicted_M >= 0
    findings = []
    if lines.stage_M is not None and lines.stage_M.any():
        of_M &= lines.stage_M == 0
        findings.append(
            Finding(
                "note", "stage", "a cascade: sigma, N and alpha are judged by the lines of stage 0 alone."
            )
        )
    radii = PrintedRadii.of(radius_M[of_M], half_unit_M[of_M])
    inference = infer(radii, sigma, num_estimation, alpha)
    findings += [_inferred(inference, radii)]
    if num_estimation is not None or alpha is not None:
        findings.append(_claim(inference, radii, sigma, num_estimation, alpha))
    return [*findings, _rounding(inference, radii)]


def _inferred(inference: Inference, radii: PrintedRadii) -> Finding:
    name, tried = "N, alpha", f"{inference.tried:,} pairs of round numbers"
    if not len(radii.radius_K):
        return Finding("undecided", name, "there is no radius above 0.")
    if not inference.fitting:
        nearest = inference.nearest
        closest = "" if nearest is None else f" Closest is {_pair(nearest)}: {_misfits(radii, nearest)}."
        return Finding(
            "FAILED",
            name,
            f"none of {tried} can have made these radii with one-sided Clopper-Pearson bounds at this sigma: another "
            f"sigma, N or alpha, several of them in one log, or another bound.{closest}",
        )
    pairs = inference.pairs
    if len(pairs) > 1:
        shown = "; ".join(f"{n:,} with {exact(alpha)}" for n, alpha in pairs[:_MOST_SHOWN])
        more = f"; and {len(pairs) - _MOST_SHOWN:,} more" if len(pairs) > _MOST_SHOWN else ""
        return Finding("undecided", name, f"{len(pairs):,} of {tried} fit: {shown}{more}.")
    low, high = inference.num_estimation_range or (pairs[0][0], pairs[0][0])
    other = (
        "no N that differs by 1% or more was found to fit with another alpha"
        if low == high
        else f"with an alpha to match, N from {low:,} to {high:,} would fit, too"
    )
    return Finding(
        "ok",
        name,
        f"{_pair(inference.fitting[0])}, alone of {tried}: {inference.telling:,} distinct radii lie where they can be "
        f"told apart, and all fit; {other}.",
    )


def _claim(
    inference: Inference,
    radii: PrintedRadii,
    sigma: float,
    num_estimation: int | None,
    alpha: float | None,
) -> Finding:
    """What becomes of the claimed N, alpha, or both."""
    parts = [] if num_estimation is None else [f"N = {num_estimation:,}"]
    parts += [] if alpha is None else [f"alpha = {exact(alpha)}"]
    said = " and ".join(parts)
    if not len(radii.radius_K):
        return Finding("undecided", "claim", f"{said}: there is no radius above 0.")
    fitting = [
        pair
        for pair in inference.pairs
        if (num_estimation is None or pair[0] == num_estimation) and (alpha is None or pair[1] == alpha)
    ]
    if fitting and len(inference.pairs) == 1:
        return Finding("ok", "claim", f"{said} fits, and no other round pair does.")
    with_n = "" if num_estimation is None else _with_n(inference, num_estimation)
    if fitting:
        return Finding("undecided", "claim", f"{said} fits, but so do others.{with_n}")
    if num_estimation is None or alpha is None:
        return Finding("FAILED", "claim", f"the log contradicts {said}: no tried pair with it fits.")
    trials = [Protocol(sigma, num_estimation, alpha, rounding) for rounding in ("nearest", "down")]
    least = min(trials, key=lambda trial: len(misfits(radii, trial)))
    why = _misfits(radii, least)
    if not len(misfits(radii, least)):
        why = "too many images share a radius whose neighbours in the possible ones no image has"
    return Finding("FAILED", "claim", f"the log contradicts {said}: {why}.{with_n}")


def _with_n(inference: Inference, num_estimation: int) -> str:
    alphas = [exact(alpha) for n, alpha in inference.pairs if n == num_estimation]
    if not alphas:
        return " With this N no alpha that was tried fits."
    if len(alphas) > _MOST_SHOWN:
        return f" With this N {len(alphas)} of the alpha that were tried fit."
    return f" With this N {'only ' if len(alphas) == 1 else ''}alpha = {', '.join(alphas)} fits."


def _pair(protocol: Protocol) -> str:
    return f"N = {protocol.num_estimation:,}, alpha = {exact(protocol.alpha)}"


def _misfits(radii: PrintedRadii, protocol: Protocol) -> str:
    """Which radii a protocol cannot have made."""
    wrong = misfits(radii, protocol)
    limit = largest_radius(protocol)
    above = wrong[wrong > limit]
    shown = ", ".join(exact(radius) for radius in wrong[::-1][:4]) + (", ..." if len(wrong) > 4 else "")
    text = f"{len(wrong):,} printed radii are not possible with it ({shown})"
    if len(above):
        most = f"the largest possible one, {limit:.5g}" if limit >= 0 else "any: nothing can be certified"
        text += f"; {len(above):,} of them are above {most}"
    return text


def _rounding(inference: Inference, radii: PrintedRadii) -> Finding:
    name = "rounding"
    if not len(radii.radius_K):
        return Finding("note", name, "there is no radius above 0.")
    half = radii.half_unit_K[-1]
    if len(inference.pairs) != 1:
        return Finding(
            "undecided",
            name,
            f"the largest radius, {exact(radii.radius_K[-1])}, is known to {2 * half:.0e}; whether it was rounded up "
            "could be told only with N and alpha. Most codes round to the nearest.",
        )
    protocol = inference.fitting[0]
    ways = {fitting.rounding for fitting in inference.fitting}
    if ways == {"down"}:
        return Finding("ok", name, "radii are rounded down: none exceeds the certified one.")
    told = radii.radius_K >= telling_from(radii, protocol)
    printed, true = radii.radius_K[told], radii_behind(radii, protocol)[told]
    up = printed > true * (1 + 1e-6)
    if not len(printed) or len(ways) > 1:
        return Finding("undecided", name, "to the nearest and down fit alike.")
    if not up.any():
        return Finding("ok", name, "no radius that can be told apart exceeds the certified one.")
    worst = int(np.argmax(np.where(up, printed - true, 0.0)))
    return Finding(
        "note",
        name,
        f"to the nearest printed digit: of {len(printed):,} distinct radii that can be told apart {int(up.sum()):,} "
        f"are printed above the certified one, for example {exact(printed[worst])} for {true[worst]:.6g}.",
    )
