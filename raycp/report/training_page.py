"""The report of a training: one self-contained page, and its pictures as files."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path

import raycp
from raycp.report.numerals import DASH, duration
from raycp.report.page import environment
from raycp.report.theme import DARK, LIGHT
from raycp.report.training_plot import draw_stage
from raycp.report.training_record import StageRecord, TrainingRecord
from raycp.report.write import write_files


def write_training_report(record: TrainingRecord, folder: Path, made: datetime) -> list[Path]:
    """Write report.html, and the curves of each stage as PNG, into `folder`.

    Raises:
        StorageError: the folder cannot be written.
    """
    contents: dict[str, str | bytes] = {"report.html": render_training(record, made)}
    for stage in record.stages:
        if stage.loss:
            contents[f"{stage.name}.png"] = draw_stage(stage)
    return write_files(folder, contents)


def render_training(record: TrainingRecord, made: datetime) -> str:
    """The page as HTML; pure but for reading the template."""
    return (
        environment()
        .get_template("training.html")
        .render(
            record=record,
            script_source="",
            stages=[(stage, summary(stage)) for stage in record.stages],
            curves={
                stage.name: (draw_stage(stage, LIGHT), draw_stage(stage, DARK))
                for stage in record.stages
                if stage.loss
            },
            configuration=json.dumps(record.config, indent=2, ensure_ascii=False),
            light=LIGHT,
            dark=DARK,
            made=made,
            version=raycp.__version__,
        )
    )


def summary(stage: StageRecord) -> dict[str, str]:
    """The row of a stage: steps, loss, seconds, and the figures of its last validation."""
    row = {
        "steps": f"{stage.steps:,}" if stage.done else f"{stage.step:,}/{stage.steps:,}",
        "loss": f"{stage.loss[stage.step]:.4g}" if stage.loss else DASH,
        "time": DASH if stage.seconds is None else duration(stage.seconds),
    }
    for name, value in stage.metrics[max(stage.metrics)].items() if stage.metrics else ():
        row[name] = f"{100 * value:.1f}%" if "accuracy" in name else f"{value:.3g}"
    return row


def plain_table(record: TrainingRecord) -> str:
    """The stages as text: a line each, and the figures of their last validations below it."""
    lines = []
    for stage in record.stages:
        row = summary(stage)
        head = [f"{key} {row.pop(key)}" for key in ("steps", "loss", "time")]
        state = "done" if stage.done else "in progress" if stage.loss else "not begun"
        lines.append(f"{stage.name} ({stage.kind}): {state}, {', '.join(head)}")
        lines += [f"  {name}  {value}" for name, value in row.items()]
    return "\n".join(lines) + "\n"
