"""A damaged, foreign or contradicting ledger file is named and left alone, and no wrong count comes out of it."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from counted_blocks import FINGERPRINT, blocks_of, counted, ledger_of, sums

from raycp.certify.units import Counted
from raycp.errors import LedgerError
from raycp.runs import ledger as ledger_module
from raycp.sampling.blocks import Block, Phase
from raycp.storage import Storage


def test_different_counts_of_the_same_samples_are_refused(tmp_path: Path) -> None:
    item = counted(2, Phase.ESTIMATION, 40, 10, 10)
    ledger_of(tmp_path, 10).append([item])
    changed = item.counts_K.copy()
    changed[0], changed[1] = changed[0] + 1, changed[1] - 1
    if changed.min() < 0:
        changed = np.roll(item.counts_K, 1)
    ledger_of(tmp_path, 10).append([Counted(0.25, item.block, changed, "cpu x", 1.0)])
    names = sorted(path.name for path in (tmp_path / "counts").iterdir())
    with pytest.raises(LedgerError) as caught:
        blocks_of(tmp_path, 10)
    message = str(caught.value)
    assert all(f"{tmp_path}/counts/{name}" in message for name in names)
    assert "hold different counts of the same samples (image 41, sigma 0.25, samples 40 to 49)" in message
    assert message.endswith("move both away and resume, their samples are drawn again.")
    assert sorted(path.name for path in (tmp_path / "counts").iterdir()) == names
    # Another class of numerics may count otherwise.
    (tmp_path / "counts" / names[0]).unlink()
    (tmp_path / "counts" / names[1]).unlink()
    ledger_of(tmp_path, 10).append([item])
    ledger_of(tmp_path, 10).append([Counted(0.25, item.block, changed, "gpu", 1.0)])
    assert len(blocks_of(tmp_path, 10)) == 2


def damaged_message(folder: Path, num_classes: int, name: str) -> str:
    with pytest.raises(LedgerError) as caught:
        blocks_of(folder, num_classes)
    message = str(caught.value)
    assert message.startswith(f"{folder}/counts/{name} ")
    return message


@pytest.mark.parametrize("num_classes", [10, 40])
def test_damage_is_found_and_named_and_other_files_are_kept(tmp_path: Path, num_classes: int) -> None:
    good, bad = ledger_of(tmp_path, num_classes), ledger_of(tmp_path, num_classes)
    good.append([counted(0, Phase.ESTIMATION, 0, 30, num_classes)])
    kept = next((tmp_path / "counts").iterdir()).name
    bad.append(
        [counted(1, Phase.ESTIMATION, 0, 30, num_classes), counted(2, Phase.SELECTION, 0, 9, num_classes)]
    )
    (file,) = (path for path in (tmp_path / "counts").iterdir() if path.name != kept)
    whole = file.read_bytes()
    rng = np.random.default_rng(0)
    contents = [
        b"",
        b"PAR1",
        whole[:-1],
        whole[1:],
        whole + b"x",
        whole[:100],
        rng.bytes(500),
        b"PAR1" + rng.bytes(90) + b"PAR1",
    ]
    contents += [whole[: len(whole) * part // 8] for part in range(1, 8)]
    for content in contents:
        file.write_bytes(content)
        message = damaged_message(tmp_path, num_classes, file.name)
        assert "is damaged (" in message
        assert message.endswith("Move it away and resume: only the samples in it are drawn again.")
        with pytest.raises(LedgerError):
            ledger_of(tmp_path, num_classes).compact()
        assert {path.name for path in (tmp_path / "counts").iterdir()} == {kept, file.name}
        assert file.read_bytes() == content
    file.rename(tmp_path / "elsewhere")
    assert sums(blocks_of(tmp_path, num_classes)) == sums([counted(0, Phase.ESTIMATION, 0, 30, num_classes)])


@pytest.mark.parametrize("num_classes", [10, 40])
def test_no_flipped_bit_changes_a_count(tmp_path: Path, num_classes: int) -> None:
    """One bit of every third byte: the file is refused, or what it says is the same (the bit was in no one's way)."""
    items = [
        counted(image, Phase.ESTIMATION, first, 20, num_classes) for image in range(3) for first in (0, 30)
    ]
    ledger_of(tmp_path, num_classes).append(items)
    (file,) = (tmp_path / "counts").iterdir()
    whole, expected = file.read_bytes(), sums(items)
    refused = 0
    for position in range(0, len(whole), 3):
        flipped = bytearray(whole)
        flipped[position] ^= 1 << (position % 8)
        file.write_bytes(flipped)
        try:
            assert sums(blocks_of(tmp_path, num_classes)) == expected
        except LedgerError:
            refused += 1
    assert refused > len(whole) / 6


def write_rows(folder: Path, rows: list[dict[str, object]], schema: pa.Schema | None = None) -> str:
    """A well-formed file with any content."""
    schema = schema or ledger_module._SCHEMA.with_metadata({"fingerprint": FINGERPRINT})
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), sink)
    Storage(str(folder)).write("counts/part-x.parquet", sink.getvalue())
    return "part-x.parquet"


GOOD_ROW = {
    "sigma": 0.25, "image_index": 3, "phase": "estimation", "first": 0, "num_samples": 6, "classes": None,
    "counts": [1, 2, 3], "numerics": "cpu x", "seconds": 1.0,
}  # fmt: skip


def test_the_row_that_the_tampered_ones_are_made_from(tmp_path: Path) -> None:
    write_rows(tmp_path, [GOOD_ROW])
    (item,) = blocks_of(tmp_path, 3)
    assert item.block == Block(1, Phase.ESTIMATION, 0, 6)
    assert item.counts_K.tolist() == [1, 2, 3]


@pytest.mark.parametrize(
    "change",
    [
        {"counts": [1, 2, 4]},
        {"num_samples": 7},
        {"counts": [-1, 4, 3]},
        {"counts": [1, 5]},
        {"counts": [1, 2, 3, 0]},
        {"counts": []},
        {"counts": [6, None, 0]},
        {"counts": [0, 0, 0], "num_samples": 0},
        {"image_index": 4},
        {"phase": "estimating"},
        {"first": -6},
        {"classes": [0, 1, 3], "counts": [1, 2, 3]},
        {"classes": [0, 1, -1], "counts": [1, 2, 3]},
        {"classes": [0, 1], "counts": [1, 2, 3]},
        {"classes": [0, 0], "counts": [3, 3]},
        {"classes": [0, None], "counts": [3, 3]},
        {"classes": [], "counts": []},
    ],
    ids=str,
)
def test_rows_that_cannot_be(tmp_path: Path, change: dict[str, object]) -> None:
    name = write_rows(tmp_path, [GOOD_ROW, GOOD_ROW | {"first": 100} | change])
    message = damaged_message(tmp_path, 3, name)
    assert "is damaged (" in message and " in the row {" in message


def schema_of(*names: str) -> pa.Schema:
    fields = [ledger_module._SCHEMA.field(name) for name in names]
    return pa.schema(fields, metadata={"fingerprint": FINGERPRINT})


def test_files_with_other_columns(tmp_path: Path) -> None:
    schema = ledger_module._SCHEMA.with_metadata({"fingerprint": FINGERPRINT})
    fewer = {key: value for key, value in GOOD_ROW.items() if key != "seconds"}
    name = write_rows(tmp_path, [fewer], schema.remove(schema.get_field_index("seconds")))
    assert "(its columns are other ones)" in damaged_message(tmp_path, 3, name)
    first = schema.get_field_index("first")
    assert "(its columns are other ones)" in damaged_message(
        tmp_path, 3, write_rows(tmp_path, [{"first": 1}], schema_of("first"))
    )
    other_type = schema.set(first, pa.field("first", pa.int32(), nullable=False))
    assert "(its columns are other ones)" in damaged_message(
        tmp_path, 3, write_rows(tmp_path, [GOOD_ROW], other_type)
    )


def test_files_of_another_run(tmp_path: Path) -> None:
    ledger_of(tmp_path, 3, fingerprint="0123456789abcdef").append([counted(0, Phase.ESTIMATION, 0, 5, 3)])
    (file,) = (tmp_path / "counts").iterdir()
    assert damaged_message(tmp_path, 3, file.name) == (
        f"{file} belongs to another run (fingerprint 0123456789ab, this run ffffffffffff). Move it away."
    )
    name = write_rows(tmp_path, [GOOD_ROW], ledger_module._SCHEMA)
    file.unlink()
    assert "(fingerprint none, " in damaged_message(tmp_path, 3, name)
