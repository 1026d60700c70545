"""Which parquet files make up a split, by the Hugging Face names `test-00000-of-00003.parquet`."""

from __future__ import annotations

import re
from pathlib import Path

from raycp.errors import DataError

_SHARD = re.compile(r"(?P<split>.+)-(?P<number>\d{5})-of-(?P<total>\d{5})(-[0-9a-f]+)?\.parquet")
_UNSHARDED_SPLITS = ("train", "validation", "test")


def find_parquet_files(path: Path, split: str | None) -> list[Path]:
    """`path` itself, or the files of one split of the folder `path`, in the order of their names.

    Raises:
        DataError: no file; files of several splits, which must not be read as one; a shard is missing, which
            would shift all indices after it.
    """
    entries = [path]
    if path.is_dir():
        entries = sorted(path.glob("[!.]*.parquet"), key=lambda entry: entry.name)
    if not entries:
        raise DataError(f"data.path: there is no *.parquet file in {path}.")
    splits = sorted({name for name in map(_split_of, entries) if name is not None})
    if split is not None:
        files = [entry for entry in entries if _split_of(entry) == split]
        if not files:
            raise DataError(f"data.split is {split}, but {path} has {', '.join(splits) or 'no named split'}.")
    elif len(splits) > 1:
        raise DataError(
            f"data.path: {path} holds several splits: {', '.join(splits)}; set data.split to one of them."
        )
    else:
        files = entries
    if path.is_dir():
        _check_complete(files)
    return files


def _split_of(file: Path) -> str | None:
    if match := _SHARD.fullmatch(file.name):
        return match["split"]
    return file.stem if file.stem in _UNSHARDED_SPLITS else None


def _check_complete(files: list[Path]) -> None:
    shards = [match for file in files if (match := _SHARD.fullmatch(file.name))]
    totals = sorted({match["total"] for match in shards})
    if len(totals) > 1:
        raise DataError(
            f"data.path: {files[0].parent} mixes shards of {' and '.join(totals)} files; keep those of one data set."
        )
    if not shards:
        return
    numbers = [int(match["number"]) for match in shards]
    for number in range(int(totals[0])):
        if numbers.count(number) != 1:
            found = "is missing" if number not in numbers else "is there more than once"
            raise DataError(
                f"data.path: in {files[0].parent} the shard {shards[0]['split']}-{number:05d}-of-{totals[0]}.parquet "
                f"{found}; the numbers of the images would be wrong."
            )
