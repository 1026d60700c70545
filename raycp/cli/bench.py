"""`raycp bench`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from raycp.cli.options import ReplicasOption, SetOption

if TYPE_CHECKING:
    from raycp.bench.measurements import Measurements


class Part(StrEnum):
    """What `raycp bench` measures."""

    forward = "forward"
    noise = "noise"
    dispatch = "dispatch"
    memory = "memory"
    train = "train"


def bench(
    config: Annotated[
        Path | None,
        typer.Argument(
            metavar="CONFIG",
            help="YAML configuration of a run; without it, a CIFAR-size purifier and classifier with random weights.",
            show_default=False,
        ),
    ] = None,
    set_: SetOption = None,
    replicas: ReplicasOption = None,
    seconds: Annotated[float, typer.Option(min=0.1, metavar="S", help="Length of each measurement.")] = 8.0,
    rounds: Annotated[
        int,
        typer.Option(min=1, metavar="N", help="How often the sides of forward, and of train, take turns."),
    ] = 3,
    only: Annotated[
        list[Part] | None,
        typer.Option("--only", help="Measure this part alone; may be repeated. All of them by default."),
    ] = None,
    images: Annotated[
        int,
        typer.Option(
            min=100, metavar="N", help="Images for the driver's memory; 50000 takes a minute or two."
        ),
    ] = 10_000,
    json_: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Also write all figures here.")
    ] = None,
) -> None:
    """Measure the engine against the bare forward pass, training against a plain loop, and the driver's limits.

    forward: bare forward pass (plain processes, no noise, no Ray), the kernel in
    the same processes, and the whole engine through Ray, in turn.
    noise: the cost of one sample's noise.
    dispatch: tasks per second with a model that does nothing, and the driver's
    load with 1,000 replicas on a virtual clock.
    memory: the driver's, over a whole run on a virtual clock.
    train: steps of a denoiser, a CIFAR-size U-Net at batch 64 in float32 on CPU,
    one after the other: a plain PyTorch loop of the same step (one process, one
    thread, no Ray), Ray Train with one worker on one core, and with two workers
    on one core each, who share the batch. Start-up and the first steps do not
    count. By CPU time: that of the processes that train; for two workers, as if
    neither ever waited.
    Everything runs on this machine, on a local cluster of its own.

    \b
    Examples:
      raycp bench
      raycp bench configs/digits/none.yaml --only forward --json bench.json
      raycp bench --only train --rounds 5
    """
    if set_ and config is None:
        raise typer.BadParameter("--set changes a configuration; give CONFIG with it.")
    if json_ is not None and not json_.absolute().parent.is_dir():
        raise typer.BadParameter(f"--json: there is no folder {json_.absolute().parent}.")

    import json
    import sys
    from contextlib import redirect_stdout

    from raycp.bench.measure import measure
    from raycp.config import RunConfig, load_config
    from raycp.errors import StorageError

    run_config = None if config is None else load_config(RunConfig, config, set_ or [])
    parts = [part.value for part in only or Part]
    with redirect_stdout(sys.stderr):  # Ray prints its warnings to stdout, where only figures belong
        found = measure(run_config, parts, seconds, rounds, replicas, images, note=_say)
    _print(found)
    if json_ is not None:
        try:
            json_.write_text(json.dumps(found.record(), indent=2) + "\n", encoding="utf-8")
        except OSError as err:
            raise StorageError(f"cannot write {json_}: {err.strerror or err}.") from err


def _print(found: Measurements) -> None:
    import sys

    from raycp.bench.tables import describe, plain_text, tables

    text = plain_text(tables(found))
    if found.setup is not None:
        text = f"{describe(found.setup)}\n\n{text}"
    if not sys.stdout.isatty():
        typer.echo(text, nl=False)
        return
    from rich.console import Console
    from rich.text import Text

    console = Console()
    for line in text.splitlines():
        style = "" if line.startswith("  ") else "bold"
        console.print(Text(line, style=style), soft_wrap=True)


def _say(text: str) -> None:
    typer.echo(text, err=True)
