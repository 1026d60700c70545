"""Several methods one after the other on one Ray cluster, each in a run directory of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field

from raycp.config import RunConfig
from raycp.distributed.cluster import connected
from raycp.distributed.job import prepare_job
from raycp.distributed.session import Observer, is_finished, run_job
from raycp.errors import RaycpError, StorageError
from raycp.runs.run_directory import CONFIG
from raycp.storage import Storage


@dataclass
class SuiteOutcome:
    """How a session of a suite ended."""

    failed: dict[str, RaycpError] = field(default_factory=dict)
    """Why, by method."""
    interrupted: bool = False
    """The user stopped it; the methods after that one were not begun."""

    @property
    def complete(self) -> bool:
        """Whether every method of the session has ended."""
        return not self.failed and not self.interrupted


def run_suite(
    methods: Mapping[str, RunConfig],
    out: str,
    display: Callable[[], AbstractContextManager[Observer]],
    say: Callable[[str], None],
) -> SuiteOutcome:
    """Run or resume each method in the directory `out`/NAME. One that fails does not keep the others from their turn.

    Args:
        methods: at least one.
        out: where the run directories are: a path, s3:// or gs://.
        display: makes who watches a method.
        say: told which method of how many, and what failed.

    Raises:
        RunMismatchError: another process works on `out`.
        StorageError: `out` is itself a run directory.
        ClusterError: Ray could not be started or reached.
    """
    storage, outcome = Storage(out), SuiteOutcome()
    with ExitStack() as stack:
        stack.enter_context(storage.locked())
        if storage.read(CONFIG) is not None:
            raise StorageError(
                f"{storage.path()} is a run directory; a comparison has one for each method in it. Take another --out."
            )
        is_connected = False
        for number, (name, config) in enumerate(methods.items(), 1):
            which, place = f"method {number} of {len(methods)}, {name}", storage.path(name)
            try:
                job = prepare_job("certify", config)
                finished = is_finished(job, place)
            except RaycpError as err:
                _fail(outcome, name, err, which, say)
                continue
            if finished:
                say(f"{which}: finished before")
                continue
            if not is_connected:  # once, and only if there is something to draw
                dashboard = stack.enter_context(connected(config.engine, f"raycp compare {storage.name}"))
                is_connected = True
                if dashboard is not None:
                    say(f"Ray dashboard: {dashboard}")
            say(which)
            try:
                with display() as observer:
                    outcome.interrupted = not run_job(job, place, observer)
            except RaycpError as err:
                _fail(outcome, name, err, which, say)
            if outcome.interrupted:
                break
    return outcome


def _fail(
    outcome: SuiteOutcome, name: str, error: RaycpError, which: str, say: Callable[[str], None]
) -> None:
    outcome.failed[name] = error
    say(f"{which}, failed: {error}")
