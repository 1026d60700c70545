"""The dispatch loop: keep every replica a few tasks ahead, survive what happens, and lose nothing.

No Ray in here: the loop runs over a `Transport`. Nothing it decides (which replica, which order, how large a task)
changes a count, because a sample's noise and the base classifier depend on neither.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from raycp.config import Engine
from raycp.distributed.flights import Flight, ReplicaState
from raycp.distributed.plan import Plan
from raycp.distributed.progress import UNLIMITED, Budget, Meter, Progress
from raycp.distributed.transport import Done, Event, Failed, Lost, Ready, Transport
from raycp.errors import ClusterError, RaycpError, WorkFailedError

_MOST_SET_ASIDE = 20
"""Units that may fail before the run ends: one bad image should not stop a run, a bad model should."""
_MOST_LOSSES_OF_A_TASK = 5
_MOST_FRUITLESS_LOSSES = 10
_GROWTH = 4
"""A task is at most this many times larger than the replica's last one."""
_OVERDUE_FACTOR, _OVERDUE_SECONDS = 20.0, 120.0
_CAPACITY_SECONDS = 2.0
_SHARE_SECONDS = 0.5
_CHECK_SECONDS = 5.0


class Sink(Protocol):
    """Where results go."""

    def write(self, kept: Sequence[Any], outcomes: Sequence[Any], /) -> None:
        """Make what the plan keeps durable; after that, and not before, the outcomes are done."""
        ...


class Dispatcher:
    """Draws everything the planner asks for.

    Args:
        planner: what to draw.
        transport: who draws it.
        engine: replicas, tasks in flight, task duration, attempts.
        batch_size: the run's batch shape; tasks are multiples of it.
        sink: where results are made durable.
        report: called with the progress about four times a second.
        budget: of this session.
    """

    def __init__(
        self,
        planner: Plan,
        transport: Transport,
        engine: Engine,
        batch_size: int,
        sink: Sink,
        report: Callable[[Progress], None],
        budget: Budget = UNLIMITED,
    ) -> None:
        self._planner = planner
        self._transport = transport
        self._engine = engine
        self._batch_size = batch_size
        self._sink = sink
        self._report = report
        self._budget = budget
        self._unspent = math.inf if budget.samples is None else budget.samples
        self._replicas: dict[int, ReplicaState] = {}
        self._hungry: dict[int, None] = {}
        """Replicas that hold fewer tasks than they may, oldest first."""
        self._live: Counter[str] = Counter()
        """Replicas per numerics class."""
        self._num_in_flight = 0
        self._pending: set[int] = set()
        self._retries: deque[Flight] = deque()
        self._kept: list[Any] = []
        self._outcomes: list[Any] = []
        self._decided = planner.num_decided
        self._num_started = self._num_tickets = self._num_lost = self._num_requeued = 0
        self._fruitless_losses = self._failed_starts = 0
        self._share = math.inf
        self._last_share = self._last_check = -math.inf
        self._start = self._last_flush = self._last_report = self._last_live = transport.now()
        self._last_capacity = -math.inf
        self._capacity = 0
        self._meter = Meter(self._start)

    def run(self, stopped: Callable[[], bool] = lambda: False) -> None:
        """Draw until every unit is decided or set aside, `stopped()`, or the budget is spent.

        What came back is durable at the end.

        Raises:
            WorkFailedError: units were set aside; the message lists them.
            ClusterError: no replica could be started, or replicas keep dying.
            RaycpError: what a replica's constructor raised.
        """
        try:
            while not self._planner.finished and not stopped() and not self._spent_and_idle():
                self._ask_for_replicas()
                self._feed()
                for event in self._transport.wait(timeout=0.25):
                    self._handle(event)
                self._check_overdue()
                self._check_patience()
                now = self._transport.now()
                if now - self._last_flush >= self._engine.flush_seconds:
                    self._flush(now)
                if now - self._last_report >= 0.25:
                    self._last_report = now
                    self._report(self.progress())
                if len(self._planner.set_aside) > _MOST_SET_ASIDE:
                    break
        finally:
            self._flush(self._transport.now())
            for replica in [*self._replicas, *self._pending]:
                self._transport.stop(replica)
            self._report(self.progress())
        if self._planner.set_aside:
            raise WorkFailedError(_describe_set_aside(self._planner.set_aside))

    def progress(self) -> Progress:
        """The state now."""
        now = self._transport.now()
        self._meter.hold(now, len(self._replicas))
        rates = self._meter.rates(now)
        return Progress(
            decided=self._decided,
            total=self._planner.num_units,
            samples=self._meter.samples,
            remaining_samples=self._planner.remaining_samples(),
            samples_per_second=rates.samples_per_second,
            replicas=len(self._replicas),
            pending=len(self._pending),
            lost=self._num_lost,
            requeued=self._num_requeued,
            share_dropped=self._planner.account.share_dropped,
            set_aside=len(self._planner.set_aside),
            seconds=now - self._start,
            in_flight=self._num_in_flight,
            busy=rates.busy,
            dispatch_seconds=rates.dispatch_seconds,
            replica_seconds=self._meter.replica_seconds,
        )

    def _ask_for_replicas(self) -> None:
        """Ask for all replicas that may be used at once; those without room wait, and an autoscaler sees them."""
        now = self._transport.now()
        if now - self._last_capacity < _CAPACITY_SECONDS:
            return
        self._last_capacity = now
        self._capacity = self._transport.capacity()
        unsent = self._planner.remaining_samples() - self._samples_in_flight()
        useful = math.ceil(unsent / self._batch_size)
        busy = sum(bool(replica.flights) for replica in self._replicas.values())
        most = self._engine.replicas or max(self._engine.min_replicas or 1, self._capacity)
        wanted = max(len(self._replicas), min(most, busy + useful))
        while len(self._replicas) + len(self._pending) < wanted:
            self._transport.start(self._num_started)
            self._pending.add(self._num_started)
            self._num_started += 1
        while len(self._replicas) + len(self._pending) > wanted:
            replica = max(self._pending)
            self._pending.remove(replica)
            self._transport.stop(replica)
        self._release_idle(now, useful)

    def _release_idle(self, now: float, useful: int) -> None:
        """At the tail of a run, give replicas back that no work is left for; `useful` idle ones may still get some.

        The last one of its numerics class stays: what was drawn under that class can only go on there.
        """
        idle = [
            number
            for number, replica in self._replicas.items()
            if not replica.flights and now - replica.since >= self._engine.idle_seconds
        ]
        for number in sorted(idle, reverse=True)[: max(0, len(idle) - max(1, useful))]:
            numerics = self._replicas[number].numerics
            if self._live[numerics] > 1:
                self._transport.stop(number)
                self._forget(number)

    def _forget(self, number: int) -> ReplicaState | None:
        """A replica is no more; returns it if it was ready."""
        self._meter.hold(self._transport.now(), len(self._replicas))
        replica = self._replicas.pop(number, None)
        if replica is not None:
            self._hungry.pop(number, None)
            self._live[replica.numerics] -= 1
            self._live = +self._live
        return replica

    def _samples_in_flight(self) -> int:
        return sum(flight.task.num_samples for r in self._replicas.values() for flight in r.flights.values())

    def _feed(self) -> None:
        """Give every replica its next tasks; when the planner has none for a class, look no further for it."""
        now = self._transport.now()
        if now - self._last_share >= _SHARE_SECONDS:
            self._last_share = now
            in_flight = max(1, len(self._replicas)) * self._engine.tasks_in_flight
            self._share = self._planner.available_samples() / in_flight
        exhausted: set[str] = set()
        for number in list(self._hungry):
            replica = self._replicas[number]
            while len(replica.flights) < self._engine.tasks_in_flight and replica.numerics not in exhausted:
                flight = self._retry_for(number, replica) or self._new_flight(replica)
                if flight is None:
                    if not self._retries:
                        exhausted.add(replica.numerics)
                    break
                if not replica.flights:
                    replica.busy_since = now
                self._meter.dispatched(self._transport.now() - replica.since)
                replica.flights[self._num_tickets] = flight
                self._num_in_flight += 1
                self._transport.submit(number, self._num_tickets, flight.task)
                self._num_tickets += 1
            if len(replica.flights) == self._engine.tasks_in_flight:
                del self._hungry[number]
        idle = self._replicas and self._num_in_flight == 0 and not self._is_spent()
        assert not idle or self._planner.finished, "the planner withholds samples that it needs"

    def _retry_for(self, number: int, replica: ReplicaState) -> Flight | None:
        """A task that failed elsewhere, on another replica if there is one of its class."""
        for _ in range(len(self._retries)):
            flight = self._retries.popleft()
            if not self._planner.wants(flight.task):  # its images were given up meanwhile
                continue
            others = any(
                other.numerics == flight.task.numerics and index != flight.avoid
                for index, other in self._replicas.items()
            )
            if flight.task.numerics == replica.numerics and (flight.avoid != number or not others):
                return flight
            self._retries.append(flight)
        return None

    def _new_flight(self, replica: ReplicaState) -> Flight | None:
        size = self._batch_size
        if replica.samples_per_second:
            size = int(min(replica.samples_per_second * self._engine.task_seconds, self._share))
            size = min(size, _GROWTH * replica.last_size)
        size = max(1, size // self._batch_size) * self._batch_size
        if self._is_spent():
            return None
        task = self._planner.next_task(int(min(size, self._unspent)), replica.numerics, self._live)
        if task is None:
            return None
        self._unspent -= task.num_samples
        return Flight(task)

    def _is_spent(self) -> bool:
        seconds = self._budget.seconds
        return self._unspent < 1 or (seconds is not None and self._transport.now() - self._start >= seconds)

    def _spent_and_idle(self) -> bool:
        return self._is_spent() and self._num_in_flight == 0

    def _handle(self, event: Event) -> None:
        if isinstance(event, Ready):
            if event.replica in self._pending:
                self._failed_starts = 0
                self._pending.remove(event.replica)
                now = self._transport.now()
                self._meter.hold(now, len(self._replicas))
                self._replicas[event.replica] = ReplicaState(event.numerics, since=now)
                self._hungry[event.replica] = None
                self._live[event.numerics] += 1
                self._release_retries()
        elif isinstance(event, Lost):
            self._lose(event)
        else:
            replica = self._replicas.get(event.replica)
            flight = replica.flights.pop(event.ticket, None) if replica else None
            if replica is not None and flight is not None:
                self._num_in_flight -= 1
                self._hungry[event.replica] = None
                replica.busy_since = replica.since = self._transport.now()
                if isinstance(event, Done):
                    self._take_in(event, replica, flight)
                else:
                    self._retry(event, flight)

    def _take_in(self, event: Done, replica: ReplicaState, flight: Flight) -> None:
        kept, outcomes = self._planner.record(flight.task, event.result, event.seconds)
        self._kept += kept
        self._outcomes += outcomes
        self._meter.drew(flight.task.num_samples, event.seconds)
        self._fruitless_losses = 0
        rate = flight.task.num_samples / max(event.seconds, 1e-9)
        old = replica.samples_per_second
        replica.samples_per_second = rate if not old else 0.5 * old + 0.5 * rate
        replica.last_size = flight.task.num_samples

    def _retry(self, event: Failed, flight: Flight) -> None:
        flight.failures += 1
        if flight.failures >= self._engine.max_attempts:
            self._planner.give_up(flight.task, f"failed {flight.failures} times: {event.reason}")
        else:
            flight.avoid = event.replica
            self._retries.append(flight)
            self._num_requeued += 1

    def _lose(self, event: Lost) -> None:
        """Give the tasks of a lost replica to others; the one that was running is watched for killing replicas."""
        self._num_lost += 1
        self._fruitless_losses += 1
        if event.replica in self._pending:
            self._pending.remove(event.replica)
            if isinstance(event.error, RaycpError):
                raise event.error
            self._failed_starts += event.error is not None
            if self._failed_starts >= self._engine.max_attempts:
                raise WorkFailedError(f"{self._failed_starts} replicas failed at their start: {event.reason}")
        self._last_capacity = -math.inf  # replace it at once
        replica = self._forget(event.replica)
        for position, flight in enumerate(replica.flights.values() if replica else ()):
            self._num_in_flight -= 1
            self._num_requeued += 1
            flight.losses += position == 0
            if flight.losses >= _MOST_LOSSES_OF_A_TASK:
                self._planner.give_up(flight.task, f"lost {flight.losses} replicas: {event.reason}")
            elif flight.losses:
                flight.avoid = None
                self._retries.append(flight)
            else:
                self._planner.requeue(flight.task)
        self._release_retries()
        if self._fruitless_losses >= _MOST_FRUITLESS_LOSSES + 2 * (self._engine.replicas or self._capacity):
            raise ClusterError(
                f"{self._fruitless_losses} replicas were lost one after the other without a result; "
                f"the last one: {event.reason}"
            )

    def _release_retries(self) -> None:
        """Hand tasks that wait for a replica of a class that is gone back to the planner, once there are others."""
        if self._live:
            for flight in [flight for flight in self._retries if flight.task.numerics not in self._live]:
                self._retries.remove(flight)
                self._planner.requeue(flight.task)

    def _check_overdue(self) -> None:
        """End replicas that hang: a frozen node is otherwise noticed only after a minute, a hung device never."""
        now = self._transport.now()
        if now - self._last_check < _CHECK_SECONDS:
            return
        self._last_check = now
        for number, replica in list(self._replicas.items()):
            if not replica.flights or not replica.samples_per_second:
                continue
            running = next(iter(replica.flights.values())).task.num_samples / replica.samples_per_second
            if now - replica.busy_since > max(_OVERDUE_SECONDS, _OVERDUE_FACTOR * running):
                self._transport.stop(number)
                self._lose(Lost(number, f"no answer for {now - replica.busy_since:.0f} s"))

    def _check_patience(self) -> None:
        now = self._transport.now()
        if self._replicas:
            self._last_live = now
        elif now - self._last_live > self._engine.start_timeout:
            raise ClusterError(
                f"no replica could start within engine.start_timeout = {self._engine.start_timeout:g} s: each wants "
                f"{self._engine.cpus_per_replica:g} CPU and {self._engine.gpus_per_replica:g} GPU, and the cluster has "
                f"room for {self._transport.capacity()}."
            )

    def _flush(self, now: float) -> None:
        self._last_flush = now
        kept, outcomes = self._kept, self._outcomes
        self._kept, self._outcomes = [], []
        if kept or outcomes:
            self._sink.write(kept, outcomes)
            self._decided += len(outcomes)


def _describe_set_aside(set_aside: Mapping[tuple[float, int], str]) -> str:
    reasons = list(dict.fromkeys(set_aside.values()))
    shown = "\n".join(f"  {reason}" for reason in reasons[:10])
    more = f"\n  and {len(reasons) - 10} more" if len(reasons) > 10 else ""
    return f"{len(set_aside)} of the run's (sigma, image) pairs could not be decided:\n{shown}{more}"
