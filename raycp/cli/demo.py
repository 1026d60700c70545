"""`raycp demo`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from raycp.errors import ConfigError

CONFIGS = Path(__file__).resolve().parents[2] / "configs" / "digits"
METHODS = ("none", "finetuned")


def demo(
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="DIR", help="Folder for models, runs and the report.")
    ] = Path("runs/demo"),
) -> None:
    """Train, purify, certify and report on the embedded digits, in a few minutes.

    Trains a classifier, a denoiser and a consistency model on scikit-learn's
    8x8 digits and fine-tunes the last with an LPIPS-like loss, all on Ray
    Train; certifies 100 held-out digits at three noise levels on Ray actors,
    without and with purifier; ends with the table and a report. No downloads.
    Run again, it resumes.

    \b
    Examples:
      raycp demo --out runs/demo
    """
    from raycp.cli.report import report
    from raycp.cli.session import run_config
    from raycp.cli.show import show
    from raycp.cli.train import train
    from raycp.config import Engine, RunConfig, load_config
    from raycp.distributed.cluster import connected

    if not CONFIGS.is_dir():
        raise ConfigError(f"the demo's configurations are not at {CONFIGS}; run it in a checkout of raycp.")
    models = out / "train"
    runs = [str(out / method) for method in METHODS]
    with connected(Engine(dashboard=True), "raycp demo") as dashboard:
        if dashboard is not None:
            _step(f"Ray dashboard: {dashboard}")
        _step(f"training: {models}")
        train(CONFIGS / "train.yaml", out=str(models))
        for method, run in zip(METHODS, runs, strict=True):
            _step(f"certifying, purifier {method}: {run}")
            config = load_config(RunConfig, CONFIGS / f"{method}.yaml", _model_overrides(method, models))
            if not run_config("certify", config, run):
                raise typer.Exit(1)
    show(runs)
    report(runs, out=out / "report")


def _model_overrides(method: str, models: Path) -> list[str]:
    overrides = [f"classifier.path={models / 'models' / 'classifier'}"]
    if method != "none":
        overrides.append(f"purifier.model.path={models / 'models' / 'finetune'}")
    return overrides


def _step(text: str) -> None:
    typer.secho(text, err=True, bold=True)
