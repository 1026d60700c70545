"""A simulation as files: two tables and a picture."""

from __future__ import annotations

from pathlib import Path

from raycp.errors import StorageError
from raycp.report.formats import csv_text
from raycp.simulate.plot import draw_simulation
from raycp.simulate.simulation import Simulation, image_records, summary_records


def write_simulation(simulation: Simulation, folder: Path) -> list[Path]:
    """Write summary.csv, images.csv and simulation.png, replacing earlier ones.

    Raises:
        StorageError: the folder cannot be made or written.
    """
    contents = {
        "summary.csv": csv_text(summary_records(simulation)).encode("utf-8"),
        "images.csv": csv_text(image_records(simulation)).encode("utf-8"),
        "simulation.png": draw_simulation(simulation),
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in contents.items():
            (folder / name).write_bytes(content)
    except OSError as err:
        raise StorageError(f"cannot write to {folder}: {err.strerror or err}.") from err
    return [folder / name for name in contents]
