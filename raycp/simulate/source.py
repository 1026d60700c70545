"""LOG|RUN as the user gives it: its images, and the protocol that replays start from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from raycp.config import CertifyProtocol, parse_config
from raycp.config.base import with_overrides
from raycp.errors import ConfigError
from raycp.logs.published_log import read_log
from raycp.report.results import read_sigmas
from raycp.runs import RunResults, read_run
from raycp.runs.manifest import is_composed
from raycp.runs.run_directory import IMPORTED
from raycp.simulate.images import LogConditions, ReplayedImages, images_of_log, images_of_run, is_run
from raycp.simulate.rules import ReplayConfig


class Source:
    """A published log or a run directory, read once.

    Args:
        location: a file, a directory, or a URI of a run.
        written_with: what a log does not say of itself; None for the defaults. Not for a run.

    Raises:
        DataError, StorageError: there is none, or it cannot be read.
        ConfigError: `written_with` is given for a run, or it is a directory of `raycp logs import` or a run of a
            composition.
    """

    def __init__(self, location: str, written_with: LogConditions | None = None) -> None:
        self.location = location
        self.run: RunResults | None = read_run(location) if is_run(location) else None
        if self.run is not None and self.run.config["kind"] == IMPORTED:
            raise ConfigError(f"{location} is an imported log: it has no votes. Give the log file itself.")
        if self.run is not None and is_composed(self.run.config):
            raise ConfigError(
                f"{location} is of a composition with a core classifier: its certificates do not follow from the votes "
                "for one class, which is what is replayed. Give a run without composition."
            )
        if self.run is not None and written_with is not None:
            raise ConfigError(
                f"{location} is a run, which records N, alpha and the votes of abstained images itself: leave out "
                "--log-num-estimation, --log-alpha and --abstained-p."
            )
        self._written_with = written_with or LogConditions()
        self._log = None if self.run is not None else read_log(Path(location))

    def images(self, sigma: float, skip_wrong: bool) -> ReplayedImages:
        """Its images at one noise level; see `images_of_log` and `images_of_run` for the errors."""
        if self.run is not None:
            return images_of_run(self.run, sigma, skip_wrong)
        assert self._log is not None
        return images_of_log(self._log, sigma, self._written_with)

    def sigmas(self) -> list[float]:
        """The noise levels of a run; see `read_sigmas` for the errors."""
        assert self.run is not None
        return [results.sigma for results in read_sigmas(self.run) if results.decided]

    def slack(self, sigma: float) -> float:
        """The distance of the noise from the Gaussian that a run recorded, per sigma; 0 for a log."""
        recorded = {} if self.run is None else self.run.config.get("slack") or {}
        return float(recorded.get(str(sigma), 0.0))

    def protocol(self, sigma: float, overrides: Sequence[str], chosen: Mapping[str, Any]) -> CertifyProtocol:
        """What the run was certified with, or the defaults for a log; then `--set`, then the options.

        Args:
            sigma: the one noise level.
            overrides: `certify.key=value`.
            chosen: values of `certify` by name; None stands for "not given".

        Raises:
            ConfigError: an unknown key or a value that is not allowed.
        """
        certify = {} if self.run is None else dict(self.run.config["config"]["certify"])
        raw = with_overrides({"certify": certify | {"rule": "fixed"}}, overrides)
        if isinstance(raw["certify"], dict):
            raw["certify"] |= {key: value for key, value in chosen.items() if value is not None}
            raw["certify"]["sigmas"] = [sigma]
        return parse_config(ReplayConfig, raw).certify
