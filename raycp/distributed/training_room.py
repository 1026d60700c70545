"""Room for the workers of a training: there, on its way, or refused with what the cluster has."""

from __future__ import annotations

from collections.abc import Callable

from raycp.config.train import TrainEngine
from raycp.errors import ClusterError


def wait_for_room(engine: TrainEngine, note: Callable[[str], None]) -> None:
    """Return once the cluster holds the fewest workers that may be; an autoscaler sees what is asked for meanwhile.

    Args:
        engine: of the training; waits for `start_timeout`, and not at all for a cluster that was started here.
        note: told that it waits.

    Raises:
        ClusterError: there is less, and nothing came in time.
    """
    import ray

    lack = _lack(engine, ray.cluster_resources())
    if lack is None:
        return
    if engine.address is None or not engine.start_timeout:
        raise ClusterError(f"{lack}. Lower engine.{_bound(engine)}, or add nodes.")
    note(f"{lack}: waiting for nodes, up to engine.start_timeout = {engine.start_timeout:g} s")
    # A placement group that does not fit is a wish: autoscalers act on it, as on any other.
    each = {"CPU": engine.cpus_per_worker} | (
        {"GPU": engine.gpus_per_worker} if engine.gpus_per_worker else {}
    )
    wish = ray.util.placement_group([each] * engine.counts.start, strategy="PACK")
    try:
        if wish.wait(engine.start_timeout):
            return
    finally:
        ray.util.remove_placement_group(wish)
    lack = _lack(engine, ray.cluster_resources()) or "the cluster's room is taken by others"
    raise ClusterError(
        f"{lack}, after engine.start_timeout = {engine.start_timeout:g} s. Lower engine.{_bound(engine)}, add "
        "nodes, or look at what the autoscaler says (`ray status`)."
    )


def room_taken() -> frozenset[str]:
    """The ids of the placement groups that this job has."""
    import ray
    from ray.util.placement_group import placement_group_table

    job = ray.get_runtime_context().get_job_id()
    # The id of a placement group ends with that of the job that asked for it.
    table = placement_group_table().items()
    return frozenset(group for group, facts in table if group.endswith(job) and facts["state"] != "REMOVED")


def free_room(before: frozenset[str]) -> None:
    """Remove the placement groups that this job has not had before: a failed attempt to train may leave one.

    Ray Train's controller forgets its group where a worker dies while it is being told what to do, and Ray keeps it,
    with its CPUs, until the job ends: the next attempt would wait for them for ever.
    """
    import ray
    from ray.util.placement_group import PlacementGroup, remove_placement_group

    for group in room_taken() - before:
        remove_placement_group(PlacementGroup(ray.PlacementGroupID.from_hex(group)))


def _bound(engine: TrainEngine) -> str:
    return "workers" if engine.min_workers is None else "min_workers"


def _lack(engine: TrainEngine, has: dict[str, float]) -> str | None:
    workers = engine.counts.start
    for kind, each in (("CPU", engine.cpus_per_worker), ("GPU", engine.gpus_per_worker)):
        if each * workers > has.get(kind, 0):
            return (
                f"engine.{_bound(engine)} = {workers} with {each:g} {kind} each want {each * workers:g} {kind}, "
                f"but the cluster has {has.get(kind, 0):g}"
            )
    return None
