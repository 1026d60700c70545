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
            if one in methods and other in methods and (changed := _other_data(methods[one], methods[other])):
                lines.append(
                    f"{where}: {one} and {other} must have the same section data, differ in {', '.join(changed)}. An "
                    "envelope is of the same images at all its sigmas, with mixed_images: true as well."
                )
    return lines


def _other_data(one: RunConfig, other: RunConfig) -> list[str]:
    return differences(resolved(one.data), resolved(other.data), "data.")
