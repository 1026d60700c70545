"""The runs of a suite one after the other on one Ray cluster, each in a directory of its own."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field

from raycp.config import RunConfig
from raycp.config.suite import EVALUATIONS
from raycp.distributed.cluster import connected
from raycp.distributed.evaluation import is_measured, run_evaluation
from raycp.distributed.evaluation_job import prepare_evaluation
from raycp.distributed.job import prepare_job
from raycp.distributed.session import Observer, is_finished, run_job
from raycp.errors import RaycpError, StorageError
from raycp.runs.run_directory import CONFIG
from raycp.storage import Storage


@dataclass
class SuiteOutcome:
    """How a session of a suite ended."""

    failed: dict[str, RaycpError] = field(default_factory=dict)
    """Why, by the folder of the run: NAME, or evaluations/NAME."""
    interrupted: bool = False
    """The user stopped it; the runs after that one were not begun."""

    @property
    def complete(self) -> bool:
        """Whether every run of the session has ended."""
        return not self.failed and not self.interrupted


@dataclass(frozen=True)
class _Run:
    """One run of a suite.

    Attributes:
        title: for people: which of how many.
        folder: below that of the suite.
        config: of the method.
        begin: reads and checks what the run needs; returns whether its directory is finished, and what runs it there.
    """

    title: str
    folder: str
    config: RunConfig
    begin: Callable[[RunConfig, str], tuple[bool, Callable[[Observer], bool]]]


def run_suite(
    methods: Mapping[str, RunConfig],
    out: str,
    display: Callable[[], AbstractContextManager[Observer]],
    say: Callable[[str], None],
    evaluated: Collection[str] = (),
) -> SuiteOutcome:
    """Certify each method in `out`/NAME, then evaluate some of them in `out`/evaluations/NAME; all of it resumes.

    A run that fails does not keep the others from their turn.

    Args:
        methods: at least one.
        out: where the run directories are: a path, s3:// or gs://.
        display: makes who watches a run.
        say: told which run of how many, and what failed.
        evaluated: the methods whose purified images are measured, too.

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
        for each in _runs(methods, evaluated):
            try:
                finished, run = each.begin(each.config, storage.path(each.folder))
            except RaycpError as err:
                _fail(outcome, each, err, say)
                continue
            if finished:
                say(f"{each.title}: finished before")
                continue
            if not is_connected:  # once, and only if there is something to draw
                dashboard = stack.enter_context(
                    connected(each.config.engine, f"raycp compare {storage.name}")
                )
                is_connected = True
                if dashboard is not None:
                    say(f"Ray dashboard: {dashboard}")
            say(each.title)
            try:
                with display() as observer:
                    outcome.interrupted = not run(observer)
            except RaycpError as err:
                _fail(outcome, each, err, say)
            if outcome.interrupted:
                break
    return outcome


def _runs(methods: Mapping[str, RunConfig], evaluated: Collection[str]) -> Iterator[_Run]:
    for number, (name, config) in enumerate(methods.items(), 1):
        yield _Run(f"method {number} of {len(methods)}, {name}", name, config, _begin_certification)
    measured = [name for name in methods if name in evaluated]
    for number, name in enumerate(measured, 1):
        title = f"evaluation {number} of {len(measured)}, {name}"
        yield _Run(title, f"{EVALUATIONS}/{name}", methods[name], _begin_evaluation)


def _begin_certification(config: RunConfig, place: str) -> tuple[bool, Callable[[Observer], bool]]:
    job = prepare_job("certify", config)
    return is_finished(job, place), lambda observer: run_job(job, place, observer)


def _begin_evaluation(config: RunConfig, place: str) -> tuple[bool, Callable[[Observer], bool]]:
    job = prepare_evaluation(config)
    return is_measured(job, place), lambda observer: run_evaluation(job, place, observer)


def _fail(outcome: SuiteOutcome, run: _Run, error: RaycpError, say: Callable[[str], None]) -> None:
    outcome.failed[run.folder] = error
    say(f"{run.title}, failed: {error}")
