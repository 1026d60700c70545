"""Envelopes over several methods of a suite, for methods with a network per noise level: what they may be made of."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from itertools import combinations

from raycp.config.base import differences, resolved
from raycp.config.certify import RunConfig


def wrong_envelopes(
    envelopes: Mapping[str, tuple[str, ...]],
    methods: Mapping[str, RunConfig],
    logs: Mapping[str, Collection[float]],
) -> list[str]:
    """What is wrong with the envelopes of a suite, a line for each mistake.

    Args:
        envelopes: name of the row -> methods and logs of the suite.
        methods: by name.
        logs: noise levels of each published log, pixel units, by the name of its row.
    """
    sigmas = {name: set(config.certify.sigmas) for name, config in methods.items()}
    sigmas |= {name: set(of_log) for name, of_log in logs.items()}
    known = f"methods {', '.join(methods)}" + (f" or the logs {', '.join(logs)}" if logs else "")
    lines = []
    for name, members in envelopes.items():
        where = f"envelopes.{name}"
        if name in sigmas:
            lines.append(f"{where} must not have the name of a method or log.")
        lines += [
            f"{where}.{at} must be one of the {known}, got {member!r}."
            for at, member in enumerate(members)
            if member not in sigmas
        ]
        twice = dict.fromkeys(member for member in members if members.count(member) > 1)
        lines += [f"{where} must have each member once, got {member!r} twice." for member in twice]
        for one, other in combinations([member for member in dict.fromkeys(members) if member in sigmas], 2):
            if both := sorted(sigmas[one] & sigmas[other]):
                lines.append(
                    f"{where}: {one} and {other} must not both have sigma {', '.join(f'{sigma:g}' for sigma in both)}. "
                    "An envelope over several methods is for one with a network per noise level: each sigma is of one "
                    "member."
                )
            if one not in methods or other not in methods:
                continue
            pair = methods[one], methods[other]
            if changed := differences(resolved(pair[0].data), resolved(pair[1].data), "data."):
                lines.append(
                    f"{where}: {one} and {other} must have the same section data, differ in {', '.join(changed)}. An "
                    "envelope is of the same images at all its sigmas, with mixed_images: true as well."
                )
            if pair[0].certify.alpha != pair[1].certify.alpha:
                lines.append(
                    f"{where}: {one} and {other} must have the same certify.alpha, got {pair[0].certify.alpha:g} and "
                    f"{pair[1].certify.alpha:g}: the figures of a row are of certificates that are as sure."
                )
    return lines
