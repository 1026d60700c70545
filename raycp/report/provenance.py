"""Where the figures come from: everything RUN/config.json records, and the commands that made them."""

from __future__ import annotations

import json
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from raycp.report.conditions import NOT_RECORDED
from raycp.report.results import RunLike, SigmaResults

_ELSEWHERE = ("image_index", "class_names")


def recorded_facts(run: RunLike) -> list[tuple[str, str]]:
    """Dotted key and value of everything in config.json but the configuration itself, in its order.

    The image indices and class names are left out: they are long, and shown elsewhere.
    """
    facts = {key: value for key, value in run.config.items() if key != "config"}
    if isinstance(facts.get("versions"), Mapping):
        facts["versions"] = ", ".join(f"{name} {version}" for name, version in facts["versions"].items())
    if isinstance(facts.get("data"), Mapping):
        facts["data"] = {key: value for key, value in facts["data"].items() if key not in _ELSEWHERE}
    if isinstance(facts.get("files"), Sequence):
        facts["files"] = dict(enumerate(facts["files"], start=1))
    return _flattened(facts, "")


def numerics_in_words(sigmas: Sequence[SigmaResults]) -> str:
    """The numerics classes that the certificates were computed under, with their numbers where there are several."""
    counts: Counter[str] = Counter()
    for results in sigmas:
        counts.update(results.numerics)
    if len(counts) == 1:
        return next(iter(counts))
    return "; ".join(f"{name} ({count} certificates)" for name, count in counts.most_common()) or NOT_RECORDED


def configuration_text(run: RunLike) -> str:
    """The resolved configuration as JSON, which is YAML: saved as a file it is what `raycp certify` reads."""
    return json.dumps(run.config.get("config"), indent=2, ensure_ascii=False)


def report_command(runs: tuple[RunLike, ...], out: str | None) -> str:
    """The command line that makes this report again."""
    words = ["raycp", "report", *(run.path for run in runs)]
    return shlex.join(words if out is None else [*words, "--out", out])


def _flattened(value: Any, path: str) -> list[tuple[str, str]]:
    if isinstance(value, Mapping) and value:
        pairs = [(f"{path}.{key}" if path else str(key), item) for key, item in value.items()]
        return [fact for key, item in pairs for fact in _flattened(item, key)]
    return [(path, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))]
