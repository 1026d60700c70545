"""`raycp train`."""

from __future__ import annotations

import shlex
import sys
from typing import Any

import typer

from raycp.cli.options import AddressOption, ConfigArgument, OutOption, SetOption
from raycp.errors import MissingFilesError, RaycpError


def train(
    config: ConfigArgument, out: OutOption, set_: SetOption = None, address: AddressOption = None
) -> None:
    """Train classifier, denoiser and purifier on Ray Train; the same command resumes.

    The stages of the configuration run one after the other in one data-parallel
    job. Each leaves RUN/models/NAME, a directory that raycp certify takes as it
    is. Run again, it goes on from the last checkpoint.

    \b
    Examples:
      raycp train configs/digits/train.yaml --out runs/demo/train
      raycp train configs/digits/train.yaml --out runs/one --set engine.workers=1
    """
    from raycp.config import load_config
    from raycp.config.train import TrainConfig
    from raycp.distributed.train import train_models

    overrides = [*(set_ or []), *([] if address is None else [f"engine.address={address}"])]
    loaded = load_config(TrainConfig, config, overrides)
    try:
        trained = train_models(loaded, str(out), _print)
    except MissingFilesError:
        raise
    except (RaycpError, KeyboardInterrupt):
        typer.echo(f"resume with: {shlex.join(['raycp', *sys.argv[1:]])}", err=True)
        raise
    if not trained:
        typer.echo(f"{out} holds all stages already; nothing to do", err=True)


def _print(line: dict[str, Any]) -> None:
    if "note" in line:
        typer.echo(line["note"], err=True)
        return
    if "progress" in line:
        seconds = round(line["seconds_left"])
        speed = f"{line['images_per_second']:,.0f} images/s, ETA {seconds // 60}:{seconds % 60:02d}"
        text = f"step {line['step']:,}/{line['progress']:,}, loss {line['loss']:.4g}, {speed}"
    elif line.get("restored"):
        workers = "1 worker" if line["workers"] == 1 else f"{line['workers']} workers"
        text = f"goes on from step {line['step']:,} with {workers}"
    elif line.get("done"):
        text = f"done in {line['seconds']:.0f} s"
    elif "metrics" in line:
        figures = [
            f"{name} {value:.1%}" if "accuracy" in name else f"{name} {value:.4g}"
            for name, value in line["metrics"].items()
        ]
        text = f"step {line['step']:,}: {', '.join(figures)}"
    else:
        return
    typer.echo(f"{line['stage']}: {text}", err=True)
