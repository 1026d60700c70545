"""The cascade over the noise levels of a run, derived from its ledger: nothing is drawn anew."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from raycp.errors import ConfigError, StorageError
from raycp.runs.manifest import is_composed
from raycp.runs.run_directory import RunDirectory, RunResults, read_run
from raycp.runs.tables import to_parquet
from raycp.sampling.blocks import Phase
from raycp.statistics import Stage, certify_cascade, select_class
from raycp.storage import Storage

TABLE = "cascade.parquet"
_SCHEMA = pa.schema(
    [
        pa.field("image_index", pa.int64(), metadata={"unit": "index in the data set"}),
        pa.field("label", pa.int64(), metadata={"unit": "class"}),
        pa.field("predicted", pa.int64(), metadata={"unit": "class; -1 = abstain"}),
        pa.field("radius", pa.float64(), metadata={"unit": "L2, pixel units, rounded down; 0 when abstaining"}),
        pa.field("sigma", pa.float64(), metadata={"unit": "noise level that decides, pixel units; null: none"}),
        pa.field("correct", pa.bool_(), metadata={"unit": "predicted == label"}),
    ]
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Cascade:
    """The certificates of M images.

    Attributes:
        run: where the counts are from.
        sigmas: noise levels of the stages, decreasing, pixel units.
        alpha: failure probability of each certificate.
        certificates: columns image_index, label, predicted, radius, sigma, correct; M rows.
    """

    run: RunResults
    sigmas: tuple[float, ...]
    alpha: float
    certificates: pa.Table


def derive_cascade(path: str, alpha: float | None = None) -> Cascade:
    """Certify the cascade from the counts of a finished run, and leave the table in RUN/cascade.parquet.

    Args:
        path: a run of `raycp certify` with two noise levels or more, all images drawn in full.
        alpha: failure probability of each certificate; None: the run's.

    Raises:
        ConfigError: the run is of another kind or rule, has one noise level, or alpha is outside (0, 1).
        StorageError: there is no run, it is not finished, or its ledger lacks samples.
        LedgerError: the ledger is damaged.
    """
    run = read_run(path)
    _require_full(run)
    protocol = run.config["config"]["certify"]
    alpha = float(protocol["alpha"]) if alpha is None else alpha
    if not 0 < alpha < 1:
        raise ConfigError(f"alpha must lie between 0 and 1, got {alpha:g}.")
    index_M = np.array(run.config["data"]["image_index"], dtype=np.int64)
    sigmas = tuple(sorted((float(sigma) for sigma in protocol["sigmas"]), reverse=True))
    stages = _stages(run, index_M)
    label_of = dict(
        zip(run.certificates["image_index"].to_pylist(), run.certificates["label"].to_pylist(), strict=True)
    )
    rows = []
    for index in index_M.tolist():
        found = certify_cascade([stages[sigma, index] for sigma in sigmas], alpha)
        label = label_of[index]
        rows.append((index, label, found.predicted, found.radius, found.sigma, found.predicted == label))
    columns = [pa.array(column, field.type) for column, field in zip(zip(*rows, strict=True), _SCHEMA)]
    facts = {"fingerprint": run.config["fingerprint"], "alpha": repr(alpha), "sigmas": repr(list(sigmas))}
    table = pa.Table.from_arrays(columns, schema=_SCHEMA.with_metadata(facts))
    Storage(path).write(TABLE, to_parquet(table))
    return Cascade(run, sigmas, alpha, table)


def _require_full(run: RunResults) -> None:
    if run.config["kind"] != "certify":
        raise ConfigError(
            f"{run.path} is a run of `raycp {run.config['kind']}`; take one of `raycp certify`."
        )
    if is_composed(run.config):
        raise ConfigError(
            f"{run.path} is of a composition with a core classifier (composition); the cascade is of the smoothed "
            "classifier alone. Take a run without composition."
        )
    protocol = run.config["config"]["certify"]
    if len(protocol["sigmas"]) < 2:
        raise ConfigError(f"{run.path} has one noise level, {protocol['sigmas']}; a cascade has two or more.")
    if protocol["rule"] != "fixed" or protocol["skip_wrong"]:
        given = "skip_wrong: true" if protocol["skip_wrong"] else f"rule: {protocol['rule']}"
        raise ConfigError(
            f"{run.path} was made with {given}, which stops sampling by the certificate of one noise level; the "
            "cascade wants all samples of every image: rule: fixed and skip_wrong: false."
        )
    if not run.complete:
        raise StorageError(f"{run.path} is not finished; give its `raycp certify` command again first.")


def _stages(run: RunResults, index_M: npt.NDArray[np.int64]) -> dict[tuple[float, int], Stage]:
    """The counts of every noise level and image."""
    protocol, slack = run.config["config"]["certify"], run.config["slack"]
    wanted = {
        Phase.SELECTION: int(protocol["num_selection"]),
        Phase.ESTIMATION: int(protocol["num_estimation"]),
    }
    stages: dict[tuple[float, int], Stage] = {}
    for items in RunDirectory(Storage(run.path), run.config).ledger(index_M).read():
        first = items[0]
        key = first.sigma, int(index_M[first.block.image])
        counts = {
            phase: sum((item.counts_K for item in items if item.block.phase == phase), np.zeros(1, np.int64))
            for phase in wanted
        }
        drawn = {phase: int(counts[phase].sum()) for phase in wanted}
        if drawn == wanted and key not in stages:
            selected = select_class(counts[Phase.SELECTION])
            stages[key] = Stage(first.sigma, selected, counts[Phase.ESTIMATION], slack[str(first.sigma)])
    missing = [
        (float(sigma), int(index))
        for sigma in protocol["sigmas"]
        for index in index_M
        if (float(sigma), int(index)) not in stages
    ]
    if missing:
        raise StorageError(
            f"{run.path}: the ledger lacks samples of {len(missing)} of {len(missing) + len(stages)} (sigma, image), "
            f"first sigma {missing[0][0]:g}, image {missing[0][1]}. Give its `raycp certify` command again: what is "
            "missing is drawn."
        )
    return stages
