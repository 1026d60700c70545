"""The lines of a published log, as they are: any of its variants, nothing judged yet.

A log is a text table with one line per image. Source of the columns `idx label predict radius correct time`: certify.py
of locuslab/smoothing (Cohen et al. 2019). Variants that were seen in public repositories:

- predict.py of the same (no radius), and of Hadisalman/smoothing-adversarial (`basePredict` besides);
- eth-sri/ACES: more columns, with spaces in their names; the logs of its selection models have no label;
- jh-jeong/smoothing-multiscale: predict -2 where undecided, `r_neg`, `pred_uc`, `corr_uc`, the `stage` of a cascade;
- jiachenlei/rRCM: no header and no idx; ethz-spylab/diffusion_denoised_smoothing: a running total under `correct`;
- time as `0:02:31.238689` or in seconds, CR LF, headers written twice, radii to 3 significant digits or 4 decimals.
"""

from __future__ import annotations

import gzip
import hashlib
import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from raycp.errors import DataError
from raycp.statistics import ABSTAIN

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

FIELD_COLUMNS = ("idx", "label", "predict", "radius", "correct", "time")
UNDECIDED = -2
"""`predict` of a cascade's image whose p_A is on neither side of the threshold."""

_WITHOUT_IDX = FIELD_COLUMNS[1:]
_WITHOUT_TIME = FIELD_COLUMNS[:-1]
_ALIASES = {"original_idx": "idx"}
_WITH_SPACES = ("unperturbed predict", "unperturbed correct")
_WHOLE = re.compile(r"[+-]?\d{1,18}(\.0*)?")
_CLOCK = re.compile(r"(?:(-?\d+) days?,? ?)?(\d+):(\d\d):(\d\d(?:\.\d*)?)")
_MOST_BYTES = 1 << 28


@dataclass(frozen=True, eq=False)
class LogLines:
    """M lines of one log, in its order; a column that the log lacks is None.

    Attributes:
        path: the file.
        sha256: of the file as it lies there.
        columns: names, in the order of the file; those of a file without a header are taken from its shape.
        header: whether the file names its columns.
        line_M: number of each line, from 1.
        image_index_M: `idx`.
        label_M: true class.
        predicted_M: class, -1 where abstained, -2 where a cascade could not decide.
        radius_M: L2, pixel units, as printed.
        half_unit_M: half a unit of the last printed digit of each radius: what rounding may have changed it by.
        correct_M: the column `correct`; NaN where it is no number.
        seconds_M: `time`; NaN where it cannot be read.
        stage_M: stage of a cascade, 0 for the first.
        damaged: one sentence for each line that cannot be read.
    """

    path: Path
    sha256: str
    columns: tuple[str, ...]
    header: bool
    line_M: Ints
    image_index_M: Ints | None
    label_M: Ints | None
    predicted_M: Ints
    radius_M: Floats | None
    half_unit_M: Floats | None
    correct_M: Floats | None
    seconds_M: Floats | None
    stage_M: Ints | None
    damaged: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.line_M)


def read_lines(path: Path, columns: Sequence[str] = ()) -> LogLines:
    """Read a log of any variant, plain or gzipped.

    Args:
        path: the file.
        columns: names of its columns, for a file without a header that has neither 5 nor 6 of them.

    Raises:
        DataError: the file cannot be read, or is no log.
    """
    content, sha256 = _content(path)
    numbered = [(number, line) for number, line in enumerate(content.splitlines(), start=1) if line.strip()]
    if not numbered:
        raise DataError(
            f"{path} is empty: a log has the columns {' '.join(FIELD_COLUMNS)}, one line per image."
        )
    separator = _separator(numbered[0][1])
    first = _names(numbered[0][1], separator)
    header = "predict" in first or not _is_number(first[0])
    if header and columns:
        raise DataError(f"{path} names its columns itself ({', '.join(first)}): leave out --columns.")
    names = first if header else list(columns) or _names_by_shape(path, numbered, separator)
    if "predict" not in names:
        raise DataError(
            f"{path} is not a certification log: its first line must name the columns {', '.join(FIELD_COLUMNS)}, or "
            f"some of them; it lacks predict. It begins {numbered[0][1][:60]!r}."
        )
    rows: list[dict[str, Any]] = []
    damaged = []
    for number, line in numbered[1:] if header else numbered:
        if header and _names(line, separator) == first:  # an appended run writes its header again
            continue
        try:
            rows.append({"line": number} | _cells(_fields(line, separator, names), names))
        except ValueError as err:
            damaged.append(f"line {number}: {err}")
    return _assembled(path, sha256, names, header, rows, damaged)


def _content(path: Path) -> tuple[str, str]:
    if path.is_dir():
        raise DataError(
            f"{path} is a directory: a log is one file, of one sigma. `raycp export` writes a run's results as logs."
        )
    try:
        data = path.read_bytes()
    except OSError as err:
        raise DataError(f"cannot read the log {path}: {err.strerror or err}.") from err
    sha256 = hashlib.sha256(data).hexdigest()
    if data[:2] == b"\x1f\x8b":
        try:
            with gzip.open(path) as file:
                data = file.read(_MOST_BYTES + 1)
        except (OSError, EOFError, zlib.error) as err:
            raise DataError(f"{path} begins like a gzip file but cannot be unpacked: {err}.") from err
    if len(data) > _MOST_BYTES:
        raise DataError(f"{path} is larger than {_MOST_BYTES >> 20} MiB: it is no log of one line per image.")
    try:
        return data.decode("utf-8-sig"), sha256
    except UnicodeDecodeError as err:
        raise DataError(
            f"{path} is not a text file; a log is a table {' '.join(FIELD_COLUMNS)} in text, plain or gzipped."
        ) from err


def _separator(line: str) -> str | None:
    """Tab, comma, or None for spaces."""
    if "\t" in line:
        return "\t"
    return "," if line.count(",") > 1 else None


def _names(line: str, separator: str | None) -> list[str]:
    """Column names of a header; names with spaces are known, so that columns may be separated by spaces, too."""
    line = line.strip().lower()
    for name in _WITH_SPACES:
        line = line.replace(name, name.replace(" ", "\0"))
    names = [name.strip().replace("\0", " ") for name in line.split(separator)]
    return [_ALIASES.get(name, name) for name in names]


def _names_by_shape(path: Path, numbered: Sequence[tuple[int, str]], separator: str | None) -> list[str]:
    """The columns of a file without a header: those of the field, without idx, or without time."""
    fields = numbered[0][1].split(separator)
    if len(fields) == len(FIELD_COLUMNS):
        return list(FIELD_COLUMNS)
    if len(fields) == len(_WITHOUT_IDX):
        return list(_WITHOUT_IDX if ":" in fields[-1] else _WITHOUT_TIME)
    raise DataError(
        f"{path} has no header, and {len(fields)} fields in its first line: which is which cannot be told. Name them, "
        "for example --columns label,predict,radius."
    )


def _fields(line: str, separator: str | None, names: Sequence[str]) -> list[str]:
    fields = [field.strip() for field in line.strip("\r\n").split(separator)]
    if len(fields) > len(names) and names[-1] == "time" and separator != "\t":  # "1 day, 0:00:01"
        fields[len(names) - 1 :] = [" ".join(fields[len(names) - 1 :])]
    if len(fields) > len(names):
        raise ValueError(f"it has {len(fields)} fields, but there are {len(names)} columns")
    last = max(names.index(name) for name in ("idx", "label", "predict", "radius") if name in names)
    # The last field of a line that breaks off may be cut itself.
    if len(fields) <= last or last == len(fields) - 1 < len(names) - 1:
        raise ValueError(
            f"it has {len(fields)} fields, but {names[last]} is column {last + 1} of {len(names)}: it breaks off"
        )
    return fields


def _cells(fields: Sequence[str], names: Sequence[str]) -> dict[str, Any]:
    texts = dict(zip(names, fields))
    cells: dict[str, Any] = {}
    for name, lowest, meaning in (
        ("idx", 0, "a number of at least 0"),
        ("label", 0, "a class, at least 0"),
        ("predict", UNDECIDED, f"a class, {ABSTAIN} for abstain or {UNDECIDED} for undecided"),
        ("stage", 0, "a number of at least 0"),
    ):
        if name in texts:
            whole = _WHOLE.fullmatch(texts[name])
            if whole is None or (value := int(texts[name].partition(".")[0])) < lowest:
                raise ValueError(f"{name} must be {meaning}, got {texts[name]!r}")
            cells[name] = value
    if "radius" in texts:
        text = texts["radius"]
        if not _is_number(text) or not 0 <= float(text) < float("inf"):
            raise ValueError(f"radius must be a number of at least 0, got {text!r}")
        cells["radius"] = Decimal(text)
    cells["correct"] = _flag(texts.get("correct", ""))
    cells["time"] = _seconds(texts.get("time", ""))
    return cells


def _assembled(
    path: Path,
    sha256: str,
    names: Sequence[str],
    header: bool,
    rows: Sequence[dict[str, Any]],
    damaged: Sequence[str],
) -> LogLines:
    def column(name: str, kind: type) -> npt.NDArray[Any] | None:
        return np.array([row[name] for row in rows], dtype=kind) if name in names else None

    printed = [row["radius"] for row in rows] if "radius" in names else None
    return LogLines(
        path=path,
        sha256=sha256,
        columns=tuple(names),
        header=header,
        line_M=np.array([row["line"] for row in rows], dtype=np.int64),
        image_index_M=column("idx", np.int64),
        label_M=column("label", np.int64),
        predicted_M=np.array([row["predict"] for row in rows], dtype=np.int64),
        radius_M=None if printed is None else np.array(printed, dtype=np.float64),
        half_unit_M=None if printed is None else half_units(printed),
        correct_M=column("correct", np.float64),
        seconds_M=column("time", np.float64),
        stage_M=column("stage", np.int64),
        damaged=tuple(damaged),
    )


def half_units(printed: Sequence[Decimal]) -> Floats:
    """Half a unit of the last digit that was printed, for each radius.

    Digits are significant ones in some logs and decimals in others, and trailing zeros are often dropped. So the unit
    is bounded from above, whichever it is: by the most decimals among the radii of the same power of ten, by the unit
    of any larger power, and by ten times that of the power below. A 0 without decimals is taken to be exact.
    """
    decimals: dict[int | None, int] = {}
    keys = [number.adjusted() if number else None for number in printed]
    for key, number in zip(keys, printed, strict=True):
        exponent = number.as_tuple().exponent
        assert isinstance(exponent, int)  # finite
        decimals[key] = max(decimals.get(key, 0), -exponent)
    zero = decimals.pop(None, 0)
    powers = sorted(key for key in decimals if key is not None)
    finest = {power: max(decimals[other] - max(0, power - other) for other in powers) for power in powers}
    units = {power: 0.5 * 10.0**-most for power, most in finest.items()}
    of_zero = 0.5 * 10.0**-zero if zero > 1 else 0.0
    return np.array([of_zero if key is None else units[key] for key in keys], dtype=np.float64)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return text.isascii() and "_" not in text


def _flag(text: str) -> float:
    named = {"true": 1.0, "false": 0.0}.get(text.lower())
    if named is not None:
        return named
    return float(text) if _is_number(text) else float("nan")


def _seconds(text: str) -> float:
    """`1 day, 0:02:31.238689` or seconds as a number."""
    clock = _CLOCK.fullmatch(text)
    if clock is not None:
        days, hours, minutes, seconds = clock.groups()
        return 86400 * int(days or 0) + 3600 * int(hours) + 60 * int(minutes) + float(seconds)
    return float(text) if _is_number(text) else float("nan")
