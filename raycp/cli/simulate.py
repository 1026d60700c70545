"""`raycp simulate`: what a sampling rule would cost and certify, replayed on recorded images."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from raycp.cli.options import SetOption

if TYPE_CHECKING:
    from raycp.simulate.images import LogConditions


class Rule(StrEnum):
    """The rules that `raycp simulate` replays beside fixed N."""

    decide = "decide"
    anytime = "anytime"
    e_process = "e_process"


LogNumEstimationOption = Annotated[
    int | None, typer.Option(min=1, metavar="N", help="N of the run that wrote LOG.", show_default="100000")
]
LogAlphaOption = Annotated[
    float | None, typer.Option(metavar="ALPHA", help="alpha of the run that wrote LOG.", show_default="0.001")
]
AbstainedPOption = Annotated[
    float | None,
    typer.Option(
        min=0.0,
        max=1.0,
        metavar="P",
        help="p_A assumed for the abstained images of LOG.",
        show_default="0.45",
    ),
]
SeedOption = Annotated[int, typer.Option(min=0, metavar="SEED", help="Seed of the replayed votes.")]


def simulate(
    source: Annotated[
        str,
        typer.Argument(
            metavar="LOG|RUN",
            help="A published log (idx label predict radius correct time) or a run directory.",
            show_default=False,
        ),
    ],
    sigma: Annotated[
        float,
        typer.Option(
            metavar="SIGMA", help="Noise level of LOG, or one of RUN's; pixel units.", show_default=False
        ),
    ],
    rule: Annotated[
        list[Rule] | None, typer.Option(help="Rule to replay; may be repeated.", show_default="decide")
    ] = None,
    set_: SetOption = None,
    num_estimation: Annotated[
        int | None, typer.Option(metavar="N", help="N of the replays.", show_default="RUN's, or 100000")
    ] = None,
    alpha: Annotated[
        float | None,
        typer.Option(
            metavar="ALPHA", help="Failure probability of a certificate.", show_default="RUN's, or 0.001"
        ),
    ] = None,
    radii: Annotated[
        str | None,
        typer.Option(
            metavar="EPS,EPS,...",
            help="Radii to decide, pixel units.",
            show_default="RUN's, or 0,.25,.5,.75,1",
        ),
    ] = None,
    skip_wrong: Annotated[
        bool | None,
        typer.Option(
            "--skip-wrong/--no-skip-wrong",
            help="Images whose selected class is not the label cost N0 alone.",
            show_default="as RUN, or no",
        ),
    ] = None,
    replays: Annotated[int, typer.Option(min=1, metavar="R", help="Replays of every image.")] = 20,
    seed: SeedOption = 0,
    max_images: Annotated[
        int | None,
        typer.Option(
            min=1, metavar="M", help="Replay at most so many images, evenly spread; all by default."
        ),
    ] = None,
    abstained_p: AbstainedPOption = None,
    log_num_estimation: LogNumEstimationOption = None,
    log_alpha: LogAlphaOption = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", metavar="DIR", help="Also write summary.csv, images.csv, simulation.png."
        ),
    ] = None,
) -> None:
    """Replay sampling rules on a published log or a run: samples saved, accuracy lost.

    Each image's p_A is taken from its radius (log) or its votes (run); votes are
    drawn anew and the rules themselves decide, against fixed N on the same
    samples and a test that knows p_A. No model, no Ray. Assumptions on stderr.

    \b
    Examples:
      raycp simulate sigma0.50.tsv --sigma 0.5
      raycp simulate sigma0.50.tsv --sigma 0.5 --rule decide --rule anytime --out simulation
      raycp simulate sigma0.50.tsv --sigma 0.5 --abstained-p 0.5 --skip-wrong
      raycp simulate runs/digits --sigma 0.25 --num-estimation 10000 --set certify.sequential.first_look=50
    """
    check_positive(sigma, "--sigma")
    refuse_keys(set_, {"certify.rule": "--rule", "certify.sigmas": "--sigma"})
    chosen = {
        "num_estimation": num_estimation,
        "alpha": alpha,
        "radii": None if radii is None else numbers(radii, "--radii"),
        "skip_wrong": skip_wrong,
    }
    from raycp.simulate.simulation import simulate as run_simulation
    from raycp.simulate.source import Source
    from raycp.simulate.text import simulation_text
    from raycp.simulate.write import write_simulation

    found = Source(source, log_conditions(abstained_p, log_num_estimation, log_alpha))
    protocol = found.protocol(sigma, set_ or [], chosen)
    images = found.images(sigma, protocol.skip_wrong)
    if max_images is not None:
        images = images.spread(max_images)
    rules = list(dict.fromkeys(chosen_rule.value for chosen_rule in rule or [Rule.decide]))
    with typer.progressbar(
        length=replays, label="replays", file=sys.stderr, hidden=not sys.stderr.isatty()
    ) as bar:
        simulation = run_simulation(
            images, protocol, rules, replays, seed, found.slack(sigma), on_replay=lambda: bar.update(1)
        )
    typer.echo(simulation_text(simulation), nl=False)
    for note in simulation.notes():
        typer.echo(f"note: {note}", err=True)
    if out is not None:
        for path in write_simulation(simulation, out):
            typer.echo(f"written: {path}", err=True)


def check_positive(value: float, option: str) -> None:
    """Refuse 0, negative numbers, infinity and NaN, as wrong usage."""
    if not 0 < value < math.inf:
        raise typer.BadParameter(f"must be greater than 0, got {value:g}.", param_hint=option)


def refuse_keys(overrides: Sequence[str] | None, options: dict[str, str]) -> None:
    """Refuse overrides of what has an option of its own."""
    for override in overrides or []:
        key = override.partition("=")[0].strip()
        for name, option in options.items():
            if key == name or key.startswith(f"{name}."):
                raise typer.BadParameter(f"{key} is set by {option} here.", param_hint="--set")


def numbers(text: str, option: str) -> list[float]:
    """Comma-separated numbers."""
    try:
        return [float(part) for part in text.split(",")]
    except ValueError as err:
        raise typer.BadParameter(
            f"takes numbers with commas between, got {text!r}.", param_hint=option
        ) from err


def log_conditions(
    abstained_p: float | None, num_estimation: int | None, alpha: float | None
) -> LogConditions | None:
    """What was said of a log; None if nothing was."""
    from raycp.simulate.images import LogConditions

    if alpha is not None and not 0 < alpha < 1:
        raise typer.BadParameter(f"must lie between 0 and 1, got {alpha:g}.", param_hint="--log-alpha")
    values = {"abstained_p": abstained_p, "num_estimation": num_estimation, "alpha": alpha}
    given = {name: value for name, value in values.items() if value is not None}
    return replace(LogConditions(), **given) if given else None  # type: ignore[arg-type]
