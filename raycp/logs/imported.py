"""A published log as a run directory that `raycp show` and `raycp report` take like one, and that says it is none.

The directory holds certificates.parquet with what a log says of each image, and a config.json of kind `imported` with
the name and SHA-256 of each file and what is claimed of it. What a log does not say stays unknown: there are no counts.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from raycp import __version__
from raycp.errors import ConfigError, DataError, RunMismatchError
from raycp.logs.published_log import PublishedLog
from raycp.report.numerals import exact
from raycp.runs import RunResults, recorded_manifest
from raycp.runs.run_directory import CONFIG, IMPORTED, RESULTS
from raycp.runs.tables import to_parquet
from raycp.statistics import largest_certifiable_radius
from raycp.storage import Storage


@dataclass(frozen=True)
class Claims:
    """What is said of logs elsewhere; None where it is not said.

    Attributes:
        num_selection: N0.
        num_estimation: N.
        alpha: failure probability of a certificate.
        data: data set and split, in words.
    """

    num_selection: int | None = None
    num_estimation: int | None = None
    alpha: float | None = None
    data: str | None = None


def imported_run(
    logs: Sequence[PublishedLog],
    sigmas: Sequence[float | None],
    claims: Claims,
    name: str,
    path: str,
    radii: Sequence[float] | None = None,
) -> RunResults:
    """Logs of one method as a run, one noise level each.

    Args:
        logs: at least one.
        sigmas: noise level of each, pixel units; None where it is not said, which only a single log may have.
        claims: what is said of all of them.
        name, path: what to call the run, and where it lies.
        radii: of its table, L2, pixel units; None: the default ones.

    Raises:
        ConfigError: two logs of one sigma, or one of several without.
        DataError: a radius that the claims do not allow, or logs that disagree on the label of an image.
    """
    _check_sigmas(logs, sigmas)
    _check_labels(logs)
    for log, sigma in zip(logs, sigmas, strict=True):
        _check_reach(log, sigma, claims)
    known = sorted(sigma for sigma in sigmas if sigma is not None)
    given = {key: value for key, value in asdict(claims).items() if value is not None and key != "data"}
    if radii is not None:
        given["radii"] = list(radii)
    index = np.unique(np.concatenate([log.image_index_M for log in logs]))
    content: dict[str, Any] = {
        "kind": IMPORTED,
        "config": {"certify": {"sigmas": known} | given},
        "data": {"source": claims.data, "image_index": index.tolist()},
        "indexed": all(log.indexed for log in logs),
        "files": [
            {
                "name": log.path.name,
                "sha256": log.sha256,
                "sigma": sigma,
                "images": len(log),
                "notes": list(log.notes),
            }
            for log, sigma in zip(logs, sigmas, strict=True)
        ],
    }
    fingerprint = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    config = {
        "kind": IMPORTED,
        "fingerprint": fingerprint,
        **{key: value for key, value in content.items() if key != "kind"},
        "versions": {"raycp": __version__},
    }
    return RunResults(
        name=name,
        path=path,
        config=config,
        certificates=_certificates(logs, sigmas, fingerprint),
        examples=None,
        num_images=len(index),
        complete=all(len(log) == len(index) for log in logs),
    )


def write_import(run: RunResults, storage: Storage) -> None:
    """Write an imported run; again where it is there already.

    Raises:
        RunMismatchError: the directory holds something else.
    """
    with storage.locked():
        recorded = recorded_manifest(storage)
        if recorded is not None and recorded["fingerprint"] != run.config["fingerprint"]:
            raise RunMismatchError(
                f"{storage.path()} holds another {'import' if recorded['kind'] == IMPORTED else 'run'} already. Take "
                "another --out, or delete it."
            )
        storage.write(RESULTS[IMPORTED], to_parquet(run.certificates))
        storage.write(CONFIG, json.dumps(run.config, indent=2).encode())


def _check_sigmas(logs: Sequence[PublishedLog], sigmas: Sequence[float | None]) -> None:
    if len(logs) > 1 and None in sigmas:
        raise ConfigError(
            f"{logs[sigmas.index(None)].path}: several logs make one run only if each has its sigma; give --sigma once "
            "for each file, in their order."
        )
    for at, sigma in enumerate(sigmas):
        if sigma in sigmas[:at]:
            raise ConfigError(
                f"{logs[sigmas.index(sigma)].path} and {logs[at].path} are both of sigma {exact(sigma or 0)}: a run "
                "has each sigma once. Import them into two directories."
            )


def _check_labels(logs: Sequence[PublishedLog]) -> None:
    first = logs[0]
    for log in logs[1:]:
        if log.indexed != first.indexed:
            raise ConfigError(
                f"one of {first.path} and {log.path} has no idx: they cannot be one run. Import them into two "
                "directories."
            )
        common, at_first, at_log = np.intersect1d(first.image_index_M, log.image_index_M, return_indices=True)
        differ = common[first.label_M[at_first] != log.label_M[at_log]]
        if len(differ):
            raise DataError(
                f"{first.path} and {log.path} are not of the same data: they disagree on the label of {len(differ):,} "
                f"images, for example {differ[0]}. Import them into two directories."
            )


def _check_reach(log: PublishedLog, sigma: float | None, claims: Claims) -> None:
    """Refuse what cannot be true: figures would be left out as beyond the reach of the claims."""
    if sigma is None or claims.num_estimation is None or claims.alpha is None or not len(log):
        return
    reach = largest_certifiable_radius(sigma, claims.num_estimation, claims.alpha)
    beyond = np.flatnonzero(log.radius_M - log.half_unit_M > max(reach, 0.0) * (1 + 1e-6))
    if len(beyond):
        worst = beyond[log.radius_M[beyond].argmax()]
        most = f"at most {reach:.5g}" if reach >= 0 else "nothing"
        raise DataError(
            f"{log.path}: {len(beyond):,} radii are larger than the claims allow, for example "
            f"{exact(log.radius_M[worst])} of image {log.image_index_M[worst]}: sigma {exact(sigma)}, N = "
            f"{claims.num_estimation:,} and alpha = {exact(claims.alpha)} certify {most}. `raycp logs audit` tells "
            "which N and alpha fit; leave out what is not known."
        )


def _certificates(logs: Sequence[PublishedLog], sigmas: Sequence[float | None], fingerprint: str) -> pa.Table:
    order = sorted(range(len(logs)), key=lambda at: sigmas[at] or 0.0)
    parts = [_part(logs[at], sigmas[at]) for at in order]
    table: pa.Table = pa.concat_tables(parts)
    return table.replace_schema_metadata({"fingerprint": fingerprint})


def _field(name: str, kind: pa.DataType, unit: str) -> pa.Field:
    return pa.field(name, kind, metadata={"unit": unit})


_SCHEMA = pa.schema(
    [
        _field("sigma", pa.float64(), "pixel units, images in [0,1]; NaN: not said"),
        _field(
            "image_index", pa.int64(), "index in the data set; of a log without idx the number of the line"
        ),
        _field("label", pa.int64(), "class"),
        _field("predicted", pa.int64(), "class; -1 = abstain"),
        _field("radius", pa.float64(), "L2, pixel units, as printed; 0 when abstaining"),
        _field("half_unit", pa.float64(), "by how much rounding may have changed the radius"),
        _field("correct", pa.bool_(), "predicted == label, recomputed"),
        _field("stop_reason", pa.string(), IMPORTED),
        _field("samples", pa.int64(), "null: a log does not say"),
        _field("seconds", pa.float64(), "as the log says, on unknown hardware; null: it does not"),
        _field("numerics", pa.string(), "null: a log does not say"),
    ]
)


def _part(log: PublishedLog, sigma: float | None) -> pa.Table:
    number = len(log)
    columns = {
        "sigma": np.full(number, math.nan if sigma is None else sigma),
        "image_index": log.image_index_M,
        "label": log.label_M,
        "predicted": log.predicted_M,
        "radius": log.radius_M,
        "half_unit": log.half_unit_M,
        "correct": log.correct_M,
        "stop_reason": [IMPORTED] * number,
        "samples": [None] * number,
        "seconds": pa.array(log.seconds_M, mask=np.isnan(log.seconds_M)),
        "numerics": [None] * number,
    }
    return pa.table(columns, schema=_SCHEMA)
