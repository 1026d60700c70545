"""The stored boundary tables: what is read is what was written, or an error that names the file."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest

from raycp.certify.boundaries import BoundaryTable, boundary_tables
from raycp.config import CertifyProtocol, Sequential
from raycp.errors import StorageError
from raycp.runs.boundaries import BOUNDARIES, digest, read_boundaries, write_boundaries
from raycp.storage import Storage

SLACK = {0.25: 0.0, 1.0: 1e-6}


@pytest.fixture(scope="module", params=["decide", "anytime"])
def tables(request: pytest.FixtureRequest) -> dict[float, BoundaryTable]:
    protocol = CertifyProtocol(
        sigmas=(0.25, 1.0), num_estimation=800, rule=request.param, sequential=Sequential(step=0.1)
    )
    return boundary_tables(protocol, SLACK, (0.0, 0.25, 0.5, 2.0))


def test_round_trip(tables: dict[float, BoundaryTable], tmp_path: Path) -> None:
    storage = Storage(str(tmp_path))
    write_boundaries(storage, tables)
    found = read_boundaries(storage, digest(tables))
    assert list(found) == list(tables)
    for sigma, table in tables.items():
        for field in fields(BoundaryTable):
            assert np.array_equal(getattr(found[sigma], field.name), getattr(table, field.name)), field.name
    assert len(tables[0.25].decided_R) == 3  # 2.0 is out of reach there
    assert len(tables[1.0].decided_R) == 4


def test_every_number_enters_the_digest(tables: dict[float, BoundaryTable], tmp_path: Path) -> None:
    table = tables[1.0]
    found = {digest(tables)}
    for name in ("looks_J", "radii_G", "efficacy_GJ", "decided_R", "futility_RJ"):
        changed = getattr(table, name).copy()
        changed.flat[-1] += 1
        found.add(digest({**tables, 1.0: replace(table, **{name: changed})}))
    assert len(found) == 6


def test_another_table_is_refused(tables: dict[float, BoundaryTable], tmp_path: Path) -> None:
    storage = Storage(str(tmp_path))
    with pytest.raises(StorageError, match=r"boundaries\.parquet is missing"):
        read_boundaries(storage, digest(tables))
    write_boundaries(storage, tables)
    with pytest.raises(StorageError, match="is not the one this run began with"):
        read_boundaries(storage, "0" * 64)
    file = tmp_path / BOUNDARIES
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with pytest.raises(StorageError, match=r"boundaries\.parquet is damaged"):
        read_boundaries(storage, digest(tables))
