"""`raycp plan`: samples, time and cost of a run before it starts."""

from __future__ import annotations

from typing import Annotated

import typer

from raycp.cli.options import ConfigArgument, SetOption
from raycp.cli.simulate import (
    AbstainedPOption,
    LogAlphaOption,
    LogNumEstimationOption,
    SeedOption,
    check_positive,
    log_conditions,
)


def plan(
    config: ConfigArgument,
    like: Annotated[
        str,
        typer.Option(
            metavar="RUN|LOG",
            help="Images like the planned ones: an earlier run, or a published log.",
            show_default=False,
        ),
    ],
    sigma: Annotated[
        float | None,
        typer.Option(
            metavar="SIGMA", help="Predict this sigma alone; needed with LOG: the one it was made at."
        ),
    ] = None,
    set_: SetOption = None,
    images: Annotated[
        int | None,
        typer.Option(
            min=1, metavar="M", help="Images of the planned run.", show_default="counted from CONFIG"
        ),
    ] = None,
    samples_per_second: Annotated[
        float | None,
        typer.Option(metavar="RATE", help="Throughput of one replica.", show_default="as RUN recorded"),
    ] = None,
    price: Annotated[
        float | None,
        typer.Option(metavar="PRICE", help="Price of a GPU-hour (a CPU-hour where replicas have no GPU)."),
    ] = None,
    replays: Annotated[int, typer.Option(min=1, metavar="R", help="Replays of every image.")] = 5,
    seed: SeedOption = 0,
    abstained_p: AbstainedPOption = None,
    log_num_estimation: LogNumEstimationOption = None,
    log_alpha: LogAlphaOption = None,
) -> None:
    """Predict samples, device-hours and cost of a run per sigma, by replays.

    Replays CONFIG's rule on the p_A of a run or log and scales to CONFIG's
    images. Reads no weights and no pixels. Assumptions on stderr.

    \b
    Examples:
      raycp plan configs/digits/none.yaml --like runs/digits
      raycp plan configs/digits/none.yaml --like runs/digits --set certify.rule=decide --price 0.05
      raycp plan configs/cifar10/consistency.yaml --like sigma0.50.tsv --sigma 0.5 --samples-per-second 9000
    """
    from raycp.config import RunConfig, load_config
    from raycp.simulate.forecast import forecast, forecast_notes, forecast_text
    from raycp.simulate.image_count import count_images
    from raycp.simulate.images import is_run
    from raycp.simulate.source import Source

    for value, option in (
        (sigma, "--sigma"), (samples_per_second, "--samples-per-second"), (price, "--price"),
    ):  # fmt: skip
        if value is not None:
            check_positive(value, option)
    loaded = load_config(RunConfig, config, set_ or [])
    if sigma is None and not is_run(like):
        raise typer.BadParameter(
            f"needed with the log {like}: it does not say its own.", param_hint="--sigma"
        )
    source = Source(like, log_conditions(abstained_p, log_num_estimation, log_alpha))
    number = count_images(loaded.data) if images is None else images
    planned = forecast(loaded, number, source, sigma, samples_per_second, price, replays, seed)
    typer.echo(forecast_text(planned), nl=False)
    for note in forecast_notes(planned, loaded.engine.replicas):
        typer.echo(f"note: {note}", err=True)
