"""The ledger: nothing lost and nothing doubled, through compaction, crashes, repeats and damage."""

from __future__ import annotations

from itertools import combinations, pairwise
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from counted_blocks import FINGERPRINT, IMAGE_INDEX, blocks_of, counted, ledger_of, sums
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from raycp.certify.units import Counted
from raycp.errors import StorageError
from raycp.runs.ledger import Ledger, disjoint, merge
from raycp.sampling.blocks import Block, Phase
from raycp.storage import Storage


def partition(num_classes: int, rng: np.random.Generator, most: int = 40) -> list[Counted]:
    """Random disjoint ranges of many streams, in random order."""
    items = []
    for sigma in (0.5, 0.25):
        for image in range(3):
            for phase in Phase:
                for numerics in ("cpu y", "cpu x"):
                    cuts = sorted(set(rng.integers(0, most, rng.integers(0, 8)).tolist()))
                    ranges = [(a, b - a) for a, b in pairwise(cuts) if rng.random() < 0.8]
                    items += [counted(image, phase, a, n, num_classes, sigma, numerics) for a, n in ranges]
    return [items[i] for i in rng.permutation(len(items))]


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from([2, 10, 32, 33, 40, 1000]), st.integers(0, 2**32), st.data())
def test_round_trip(
    tmp_path_factory: pytest.TempPathFactory, num_classes: int, seed: int, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("run")
    items = partition(num_classes, np.random.default_rng(seed))
    ledger, position = ledger_of(folder, num_classes), 0
    while position < len(items):
        size = data.draw(st.integers(1, 40))
        ledger.append(items[position : position + size])
        position += size
        action = data.draw(st.sampled_from(["compact", "another session", "read", "nothing", "nothing"]))
        if action == "compact":
            ledger.compact()
        elif action == "another session":
            ledger = ledger_of(folder, num_classes)
        elif action == "read":
            assert sums(blocks_of(folder, num_classes)) == sums(items[:position])
    found = list(ledger.read())
    assert sums(item for unit in found for item in unit) == sums(items)
    # One list per (sigma, image) and class; the classes of a unit follow each other, most samples first.
    keys = [{(item.sigma, item.block.image, item.numerics) for item in unit} for unit in found]
    assert all(len(key) == 1 for key in keys)
    units = [next(iter(key)) for key in keys]
    assert len(set(units)) == len(units)
    places = [unit[:2] for unit in units]
    assert len(set(places)) == sum(1 for i, place in enumerate(places) if i == 0 or places[i - 1] != place)
    sizes = [sum(item.block.num_samples for item in unit) for unit in found]
    assert all(sizes[i] >= sizes[i + 1] for i in range(len(places) - 1) if places[i] == places[i + 1])
    assert sum(item.seconds for unit in found for item in unit) == pytest.approx(
        sum(item.seconds for item in items)
    )


@pytest.mark.parametrize("num_classes", [10, 40])
def test_compaction_joins_and_leaves_one_file(tmp_path: Path, num_classes: int) -> None:
    ledger = ledger_of(tmp_path, num_classes)
    for first in range(0, 90, 10):
        ledger.append([counted(1, Phase.ESTIMATION, first, 10, num_classes)])
    ledger.append([counted(1, Phase.ESTIMATION, 95, 5, num_classes)])  # a hole before it
    assert len(list((tmp_path / "counts").iterdir())) == 10
    before = sums(blocks_of(tmp_path, num_classes))
    ledger.compact()
    assert len(list((tmp_path / "counts").iterdir())) == 1
    blocks = [item.block for item in blocks_of(tmp_path, num_classes)]
    assert blocks == [Block(1, Phase.ESTIMATION, 0, 90), Block(1, Phase.ESTIMATION, 95, 5)]
    assert sums(blocks_of(tmp_path, num_classes)) == before
    ledger.compact()
    assert len(list((tmp_path / "counts").iterdir())) == 1


def test_parts_are_compacted_from_time_to_time(tmp_path: Path) -> None:
    ledger = ledger_of(tmp_path, 3)
    most = 0
    for first in range(200):
        ledger.append([counted(0, Phase.ESTIMATION, first, 1, 3)])
        most = max(most, len(list((tmp_path / "counts").iterdir())))
    assert 60 <= most <= 70
    assert blocks_of(tmp_path, 3)[0].block.num_samples >= 128
    assert sums(blocks_of(tmp_path, 3)) == sums([counted(0, Phase.ESTIMATION, 0, 200, 3)])


def test_dense_and_sparse_counts_on_disk(tmp_path: Path) -> None:
    """Above 32 classes only those with votes are stored."""
    for num_classes, dense in ((32, True), (33, False)):
        folder = tmp_path / str(num_classes)
        item = counted(2, Phase.SELECTION, 0, 50, num_classes)
        ledger_of(folder, num_classes).append([item])
        (row,) = pq.read_table(next((folder / "counts").iterdir())).to_pylist()
        voted = np.flatnonzero(item.counts_K)
        assert row["classes"] == (None if dense else voted.tolist())
        assert row["counts"] == (item.counts_K if dense else item.counts_K[voted]).tolist()
        assert (row["image_index"], row["phase"], row["first"], row["num_samples"]) == (
            41,
            "selection",
            0,
            50,
        )
        assert (row["sigma"], row["numerics"], row["seconds"]) == (0.25, "cpu x", 12.5)


class KilledError(Exception):
    """Stands for the end of the process."""


class MortalStorage(Storage):
    """Dies before its n-th change of the disk."""

    left = 10**9

    def _live(self) -> None:
        if self.left == 0:
            raise KilledError
        self.left -= 1

    def write(self, name: str, data: bytes) -> None:
        self._live()
        super().write(name, data)

    def delete(self, name: str) -> None:
        self._live()
        super().delete(name)


@pytest.mark.parametrize("num_classes", [10, 40])
def test_killed_at_every_point_of_compaction(tmp_path: Path, num_classes: int) -> None:
    items = partition(num_classes, np.random.default_rng(1))
    parts = [items[i::7] for i in range(7)]
    for point in range(9):
        folder = tmp_path / str(point)
        for part in parts:
            ledger_of(folder, num_classes).append(part)
        storage = MortalStorage(str(folder))
        storage.left = point  # before the write, after it, and after each of the seven deletions
        dying = Ledger(storage, FINGERPRINT, IMAGE_INDEX, num_classes)
        if point < 8:
            with pytest.raises(KilledError):
                dying.compact()
            names = [path.name.partition("-")[0] for path in (folder / "counts").iterdir()]
            assert sorted(names) == ["merged"] * (point > 0) + ["part"] * (7 - max(0, point - 1))
        else:
            dying.compact()
        assert sums(blocks_of(folder, num_classes)) == sums(items)
        # The next session draws on, and compacts on top of the remains.
        more = [counted(1, Phase.ESTIMATION, 100, 20, num_classes)]
        ledger = ledger_of(folder, num_classes)
        ledger.append(more)
        assert sums(item for unit in ledger.read() for item in unit) == sums(items + more)
        ledger.compact()
        assert sums(blocks_of(folder, num_classes)) == sums(items + more)


def test_a_full_disk_during_append_and_compaction(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = ledger_of(tmp_path, 10)
    ledger.append([counted(0, Phase.ESTIMATION, 0, 30, 10)])
    ledger.append([counted(0, Phase.ESTIMATION, 30, 30, 10)])

    def full(self: Storage, name: str, data: bytes) -> None:
        raise StorageError("no room")

    with monkeypatch.context() as patch:
        patch.setattr(Storage, "write", full)
        with pytest.raises(StorageError):
            ledger.append([counted(0, Phase.ESTIMATION, 60, 30, 10)])
        with pytest.raises(StorageError):
            ledger.compact()
    assert sums(blocks_of(tmp_path, 10)) == sums([counted(0, Phase.ESTIMATION, 0, 60, 10)])
    ledger.append([counted(0, Phase.ESTIMATION, 60, 30, 10)])
    assert sums(blocks_of(tmp_path, 10)) == sums([counted(0, Phase.ESTIMATION, 0, 90, 10)])


RANGES = st.lists(
    st.integers(0, 19).flatmap(lambda first: st.tuples(st.just(first), st.integers(1, 20 - first))),
    max_size=8,
)


@settings(deadline=None)
@given(RANGES)
def test_overlapping_ranges_keep_as_many_samples_as_can_be(ranges: list[tuple[int, int]]) -> None:
    """Against all subsets."""
    items = [counted(0, Phase.ESTIMATION, first, n, 3) for first, n in ranges]
    chosen = disjoint(items)
    total = sum(item.block.num_samples for item in chosen)
    spans = [(item.block.first, item.block.first + item.block.num_samples) for item in chosen]
    assert all(a[1] <= b[0] for a, b in pairwise(spans))
    assert all((first, stop - first) in ranges for first, stop in spans)
    best = 0
    for size in range(len(ranges) + 1):
        for subset in combinations(ranges, size):
            ordered = sorted(subset)
            if all(a[0] + a[1] <= b[0] for a, b in pairwise(ordered)):
                best = max(best, sum(n for _, n in ordered))
    assert total == best


@pytest.mark.parametrize("seed", range(20))
def test_two_drivers_with_other_cuts_do_not_spoil_each_other(tmp_path: Path, seed: int) -> None:
    """One has drawn a whole stream, which it reported; the other is under way, and compacts."""
    rng = np.random.default_rng(seed)
    whole = sorted({0, 60, *rng.integers(1, 60, 6).tolist()})
    partly = sorted(set(rng.integers(0, 60, 8).tolist()))
    ours, theirs = ledger_of(tmp_path, 10), ledger_of(tmp_path, 10)
    for cuts, ledger in ((whole, ours), (partly, theirs)):
        for a, b in pairwise(cuts):
            ledger.append([counted(0, Phase.ESTIMATION, a, b - a, 10)])
    expected = sums([counted(0, Phase.ESTIMATION, 0, 60, 10)])
    assert sums(blocks_of(tmp_path, 10)) == expected
    theirs.compact()
    assert sums(blocks_of(tmp_path, 10)) == expected


def test_the_same_range_twice_counts_once(tmp_path: Path) -> None:
    for _ in range(3):
        ledger_of(tmp_path, 10).append([counted(0, Phase.SELECTION, 5, 10, 10)])
    assert sums(blocks_of(tmp_path, 10)) == sums([counted(0, Phase.SELECTION, 5, 10, 10)])


def test_merge_joins_only_neighbours_of_one_stream() -> None:
    a, b, c = (counted(0, Phase.ESTIMATION, first, 10, 3) for first in (0, 10, 25))
    other_phase = counted(0, Phase.PREDICTION, 35, 5, 3)
    other_image = counted(1, Phase.PREDICTION, 40, 5, 3)
    other_class = counted(1, Phase.PREDICTION, 45, 5, 3, numerics="gpu")
    other_sigma = counted(1, Phase.PREDICTION, 50, 5, 3, sigma=0.5, numerics="gpu")
    items = [a, b, c, other_phase, other_image, other_class, other_sigma]
    kept = [item.counts_K.copy() for item in items]
    joined, *rest = merge(items)
    assert joined.block == Block(0, Phase.ESTIMATION, 0, 20)
    assert joined.counts_K.tolist() == (a.counts_K + b.counts_K).tolist()
    assert joined.seconds == a.seconds + b.seconds
    assert [item.block for item in rest] == [item.block for item in items[2:]]
    assert all((item.counts_K == before).all() for item, before in zip(items, kept, strict=True))
    assert list(merge([])) == []


def test_an_empty_ledger(tmp_path: Path) -> None:
    ledger = ledger_of(tmp_path, 3)
    assert list(ledger.read()) == []
    ledger.compact()
    assert not (tmp_path / "counts").exists()


def test_on_an_object_store() -> None:
    storage = Storage("mock:///bucket/run")
    storage._fs.create_dir("bucket/run/counts", recursive=True)
    ledger = Ledger(storage, FINGERPRINT, IMAGE_INDEX, 10)
    for first in range(0, 50, 10):
        ledger.append([counted(0, Phase.ESTIMATION, first, 10, 10)])
    assert len(storage.names("counts")) == 5
    expected = sums([counted(0, Phase.ESTIMATION, 0, 50, 10)])
    assert sums(item for unit in ledger.read() for item in unit) == expected
    ledger.compact()
    assert len(storage.names("counts")) == 1
    assert sums(item for unit in ledger.read() for item in unit) == expected
