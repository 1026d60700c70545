"""Replicas as Ray actors. One handle is one life: the dispatcher, not Ray, decides what is tried again."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import ray
from ray.actor import ActorHandle
from ray.exceptions import GetTimeoutError, RayError, RayTaskError

from raycp.certify.units import Task
from raycp.config import Engine
from raycp.distributed.metrics import ReplicaMetrics
from raycp.distributed.replica import ReplicaSpec
from raycp.distributed.transport import LONGEST_PAUSE, PAUSE, Done, Event, Failed, Lost, Ready
from raycp.errors import ClusterError, RaycpError
from raycp.sampling.blocks import Block, Phase


@ray.remote(max_restarts=0, max_task_retries=0, max_concurrency=1)
class ReplicaActor:
    """A thin wrapper: the replica itself knows nothing of Ray.

    The replica is built by a method, not by the constructor: Ray hands back what a method raises, and only the text
    of what a constructor raises.
    """

    def __init__(self) -> None:
        self._place = f"node {ray.get_runtime_context().get_node_id()[:8]}"

    def __repr__(self) -> str:
        return f"Replica({self._place})"

    def prepare(self, spec: ReplicaSpec, batch_size: int, run: str, number: int) -> tuple[str, str]:
        self._replica = spec.build()
        numerics = self._replica.prepare(batch_size)
        self._metrics = ReplicaMetrics(run, str(number), spec.device)
        return numerics, f"{self._place}, {spec.device}"

    def choose_batch_size(self, spec: ReplicaSpec) -> int:
        return spec.build().choose_batch_size()

    def run(self, sigma: float, blocks: Sequence[tuple[int, int, int, int]]) -> tuple[Any, float]:
        drawn = [Block(image, Phase(phase), first, n) for image, phase, first, n in blocks]
        result, seconds = self._replica.run(sigma, drawn)
        self._metrics.drew(sum(block.num_samples for block in drawn), seconds)
        return result, seconds


class _Call(NamedTuple):
    """No ticket: the replica's start."""

    ref: ray.ObjectRef
    ticket: int | None


class RayTransport:
    """See `Transport`.

    Args:
        spec: goes into the object store once.
        engine: CPUs and GPUs per replica.
        batch_size: the run's batch shape.
        name: of the run, for the dashboard.
    """

    def __init__(self, spec: ReplicaSpec, engine: Engine, batch_size: int, name: str) -> None:
        self._spec = ray.put(spec)
        self._engine = engine
        self._batch_size = batch_size
        self._run = name
        self._life = f"{time.time_ns() % 10**9:x}"  # Ray keeps the names of actors that are gone
        self._actors: dict[int, ActorHandle] = {}
        self._queues: dict[int, deque[_Call]] = {}
        """Of each replica, which answers them in this order; so the first one alone is looked at."""
        self._pause = 0.0

    def start(self, replica: int) -> None:
        actor = make_actor(self._engine, f"raycp {self._run} replica {replica} ({self._life})")
        self._actors[replica] = actor
        prepare = actor.prepare.options(name="certify.prepare")
        ref = prepare.remote(self._spec, self._batch_size, self._run, replica)
        self._queues[replica] = deque([_Call(ref, None)])

    def submit(self, replica: int, ticket: int, task: Task) -> None:
        self._queues[replica].append(_Call(_send(self._actors[replica], task), ticket))

    def wait(self, timeout: float) -> list[Event]:
        first = {queue[0].ref: replica for replica, queue in self._queues.items() if queue}
        if not first:
            time.sleep(timeout)
            return []
        # Looking takes time for every call that is looked at; after a rest more answers come from one look.
        time.sleep(self._pause)
        begin = time.perf_counter()
        done = answered(list(first))
        self._pause = min(LONGEST_PAUSE, PAUSE * (time.perf_counter() - begin))
        if not done:
            done, _ = ray.wait(list(first), num_returns=1, timeout=timeout)
        return [self._event(first[ref]) for ref in done]

    def stop(self, replica: int) -> None:
        if self._queues.pop(replica, None) is not None:
            ray.kill(self._actors.pop(replica))

    def capacity(self) -> int:
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        return sum(replicas_per_node(resources, self._engine) for resources in nodes)

    def now(self) -> float:
        return time.monotonic()

    def _event(self, replica: int) -> Event:
        """What came of a replica's first call."""
        ref, ticket = self._queues[replica].popleft()
        try:
            result = ray.get(ref)
        except RayTaskError as err:
            if ticket is not None:
                return Failed(replica, ticket, _last_line(err))
            self.stop(replica)
            return Lost(replica, _last_line(err), err.cause)
        except RayError as err:
            self.stop(replica)
            return Lost(replica, _last_line(err))
        if ticket is None:
            return Ready(replica, *result)
        drawn, seconds = result
        return Done(replica, ticket, drawn, seconds)


def _send(actor: ActorHandle, task: Task) -> ray.ObjectRef:
    blocks = [(b.image, int(b.phase), b.first, b.num_samples) for b in task.blocks]
    return actor.run.options(name="certify.draw").remote(task.sigma, blocks)


@contextmanager
def calls_without_answer(
    spec: ReplicaSpec, engine: Engine, tasks: Sequence[Task]
) -> Iterator[list[ray.ObjectRef]]:
    """Calls of one replica, to measure what looking for answers among them costs; the first task must be a long one."""
    actor = make_actor(engine, f"raycp without answer {time.time_ns() % 10**9:x}")
    try:
        ray.get(actor.prepare.remote(ray.put(spec), 1, "bench", 0), timeout=engine.start_timeout)
        yield [_send(actor, task) for task in tasks]
    finally:
        ray.kill(actor)


def answered(refs: list[ray.ObjectRef]) -> list[ray.ObjectRef]:
    """Those of these calls that have ended."""
    done: list[ray.ObjectRef] = ray.wait(refs, num_returns=len(refs), timeout=0)[0]
    return done


def make_actor(engine: Engine, name: str) -> ActorHandle:
    """A new replica actor; it waits in Ray until a node has room."""
    options = {"num_cpus": engine.cpus_per_replica, "num_gpus": engine.gpus_per_replica, "name": name}
    return ReplicaActor.options(**options).remote()  # type: ignore[attr-defined]


def replicas_per_node(resources: dict[str, float], engine: Engine) -> int:
    """Replicas that fit on an empty node with these resources."""
    room = [resources.get("CPU", 0.0) / engine.cpus_per_replica]
    if engine.gpus_per_replica > 0:
        room.append(resources.get("GPU", 0.0) / engine.gpus_per_replica)
    return int(min(room) + 1e-9)


def require_room(engine: Engine) -> None:
    """Refuse at once what an embedded cluster can never hold.

    Raises:
        ClusterError: no node fits one replica, and no autoscaler can bring one.
    """
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    if engine.address is None and not any(replicas_per_node(resources, engine) for resources in nodes):
        has = {kind: sum(r.get(kind, 0) for r in nodes) for kind in ("CPU", "GPU")}
        raise ClusterError(
            f"a replica wants {engine.cpus_per_replica:g} CPU and {engine.gpus_per_replica:g} GPU "
            f"(engine.cpus_per_replica, engine.gpus_per_replica), but this machine has {has['CPU']:g} CPU and "
            f"{has['GPU']:g} GPU."
        )


def on_one_replica(spec: ReplicaSpec, engine: Engine, name: str, method: str, *arguments: Any) -> Any:
    """Start a replica, call one method, and end it.

    Raises:
        ClusterError: it did not start in time, or died.
        RaycpError: what the replica itself raised.
    """
    actor = make_actor(engine, f"raycp {name} {method} {time.time_ns() % 10**9:x}")
    try:
        return ray.get(getattr(actor, method).remote(ray.put(spec), *arguments), timeout=engine.start_timeout)
    except GetTimeoutError as err:
        raise ClusterError(
            f"no replica could start within engine.start_timeout = {engine.start_timeout:g} s."
        ) from err
    except RayError as err:
        if isinstance(err, RayTaskError) and isinstance(err.cause, RaycpError):
            raise err.cause from err
        raise ClusterError(f"a replica failed at {method}: {_last_line(err)}") from err
    finally:
        ray.kill(actor)


def _last_line(err: BaseException) -> str:
    lines = [line for line in str(err).splitlines() if line.strip()]
    return lines[-1].strip() if lines else type(err).__name__
