"""What a run will cost: its rule replayed on the p_A of images like its own, scaled to its number of images."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pyarrow.compute as pc

from raycp.config import RunConfig
from raycp.errors import ConfigError
from raycp.report.numerals import DASH, duration, exact
from raycp.simulate.replay import replay
from raycp.simulate.source import Source
from raycp.simulate.text import aligned


@dataclass(frozen=True)
class SigmaForecast:
    """One noise level of the planned run.

    Attributes:
        sigma: pixel units.
        samples: expected, all images, selection included.
        spread: one standard deviation of the samples, over images drawn like those replayed, and over votes.
        fixed_samples: what fixed N would draw.
        seconds: on one replica; None where no throughput is known.
    """

    sigma: float
    samples: float
    spread: float
    fixed_samples: int
    seconds: float | None


@dataclass(frozen=True)
class Forecast:
    """The noise levels that could be predicted, and on what assumptions.

    Attributes:
        device: "GPU" or "CPU", what an hour is counted in.
        devices: GPUs (CPUs) of one replica.
        price: of one such hour; None where it was not given.
    """

    images: int
    sigmas: tuple[SigmaForecast, ...]
    device: str
    devices: float
    price: float | None
    notes: tuple[str, ...]

    def hours(self, seconds: float) -> float:
        """GPU-hours or CPU-hours of so many seconds on one replica."""
        return seconds * self.devices / 3600


def forecast(
    config: RunConfig,
    num_images: int,
    source: Source,
    sigma: float | None,
    samples_per_second: float | None,
    price: float | None,
    replays: int,
    seed: int,
) -> Forecast:
    """Predict samples, time and cost of a run of `raycp certify`.

    Args:
        config: of the planned run.
        num_images: images it will certify.
        source: the run or log whose p_A stand for those of its images.
        sigma: predict this one alone; a log needs it.
        samples_per_second: of one replica; None takes what a run recorded.
        price: of a GPU-hour (of a CPU-hour where replicas have no GPU).
        replays: at least 1.
        seed: of the replayed votes.

    Raises:
        ConfigError: no noise level of the configuration is in the source, or it is of a composition.
    """
    if config.composition is not None:
        raise ConfigError(
            "composition: raycp plan replays the rule of a smoothed classifier, not that of a composition, which has a "
            "fixed number of samples: `raycp certify CONFIG --out RUN --dry-run` tells it."
        )
    wanted, notes = _sigmas(config, source, sigma)
    protocol = config.certify
    rates = {s: samples_per_second or recorded_throughput(source, s) for s in wanted}
    slack = {s: source.slack(s) for s in protocol.sigmas}
    found = []
    for level in wanted:
        images = source.images(level, protocol.skip_wrong)
        notes += [f"sigma {exact(level)}: {note}" for note in images.notes]
        per_image_RM = replay(images, {"planned": protocol}, slack, replays, seed)["planned"].samples_RM
        samples = float(per_image_RM.mean()) * num_images
        # of a sum of new images, and of the mean it is predicted by
        spread = float(per_image_RM.std()) * math.sqrt(num_images * (1 + num_images / len(images)))
        fixed = num_images * (protocol.num_selection + protocol.num_estimation)
        rate = rates[level]
        found.append(SigmaForecast(level, samples, spread, fixed, samples / rate if rate else None))
    notes.append(
        f"rule {protocol.rule}: the {num_images:,} images are taken to have p_A like the replayed ones; ± is one "
        f"standard deviation for images drawn like them. Samples include N0 = {protocol.num_selection:,} each."
    )
    notes += _throughput_notes(config, source, samples_per_second, rates)
    gpus = config.engine.gpus_per_replica
    return Forecast(
        images=num_images,
        sigmas=tuple(found),
        device="GPU" if gpus else "CPU",
        devices=gpus or config.engine.cpus_per_replica,
        price=price,
        notes=tuple(dict.fromkeys(notes)),
    )


def _sigmas(config: RunConfig, source: Source, sigma: float | None) -> tuple[list[float], list[str]]:
    """The noise levels to predict, and a note on those that cannot be."""
    planned = config.certify.sigmas
    known = [sigma] if source.run is None else source.sigmas()
    if sigma is not None and sigma not in planned:
        raise ConfigError(
            f"sigma {exact(sigma)} is not among certify.sigmas = {_listed(planned)}; take one of them, or set them."
        )
    if sigma is not None and sigma not in known:
        raise ConfigError(f"sigma {exact(sigma)} is not in {source.location}; it has {_listed(known)}.")
    wanted = [s for s in planned if s in known and sigma in (None, s)]
    if not wanted:
        raise ConfigError(
            f"{source.location} has sigma {_listed(known)}, but certify.sigmas = {_listed(planned)}: none can be "
            "predicted."
        )
    left = [s for s in planned if s not in wanted]
    why = (
        f"no p_A for them in {source.location}"
        if sigma is None or source.run is None
        else "--sigma asks for one"
    )
    return wanted, [f"not predicted: sigma {_listed(left)} ({why})."] if left else []


def _listed(sigmas: Sequence[float | None]) -> str:
    return ", ".join(exact(sigma) for sigma in sigmas if sigma is not None)


def recorded_throughput(source: Source, sigma: float) -> float | None:
    """Samples per second of one replica at one noise level, as a run recorded them; None where it did not."""
    if source.run is None:
        return None
    table = source.run.certificates
    table = table.filter(pc.equal(table["sigma"], sigma))
    samples, seconds = (pc.sum(table[name]).as_py() or 0 for name in ("samples", "seconds"))
    return samples / seconds if samples > 0 and seconds > 0 else None


def _throughput_notes(
    config: RunConfig, source: Source, given: float | None, rates: Mapping[float, float | None]
) -> list[str]:
    if given is not None:
        return [f"{given:,.0f} samples per second and replica, as given."]
    if source.run is None or not any(rates.values()):
        return ["no throughput is known, so samples only; give --samples-per-second of one replica."]
    told = ", ".join(f"{rate:,.0f} at sigma {exact(sigma)}" for sigma, rate in rates.items() if rate)
    numerics = sorted(set(source.run.certificates["numerics"].to_pylist()))
    return [
        f"samples per second and replica are those the run recorded ({told}), under {'; '.join(numerics)}: other "
        f"devices, models or batch sizes run at another speed (planned: {config.numerics.device}, "
        f"{config.numerics.dtype})."
    ]


def forecast_text(planned: Forecast) -> str:
    """One line per noise level and their sum; a dash where nothing is known."""
    rows = [
        ["sigma", "images", "samples/image", "samples", "±", "fewer than fixed", "seconds on one replica",
         f"{planned.device}-hours", "cost"]
    ]  # fmt: skip
    seconds = [found.seconds for found in planned.sigmas]
    total = SigmaForecast(
        sigma=math.nan,
        samples=sum(found.samples for found in planned.sigmas),
        spread=math.sqrt(sum(found.spread**2 for found in planned.sigmas)),
        fixed_samples=sum(found.fixed_samples for found in planned.sigmas),
        seconds=None if None in seconds else sum(s for s in seconds if s is not None),
    )
    several = len(planned.sigmas) > 1
    for found in [*planned.sigmas, *([total] if several else [])]:
        name = "all" if found is total else exact(found.sigma)
        number = planned.images * (len(planned.sigmas) if found is total else 1)
        hours = None if found.seconds is None else planned.hours(found.seconds)
        rows.append(
            [
                name,
                f"{planned.images:,}",
                f"{found.samples / number:,.0f}",
                f"{found.samples:,.0f}",
                f"{found.spread:,.0f}",
                f"{found.fixed_samples / found.samples:.1f}x",
                DASH if found.seconds is None else f"{found.seconds:,.0f}",
                DASH if hours is None else _amount(hours),
                DASH if hours is None or planned.price is None else _amount(hours * planned.price),
            ]
        )
    return aligned(rows)


def _amount(value: float) -> str:
    return f"{value:,.2f}" if value >= 1 else f"{value:.2g}"


def forecast_notes(planned: Forecast, replicas: int | None) -> list[str]:
    """The assumptions, and the time on several replicas."""
    seconds = [found.seconds for found in planned.sigmas if found.seconds is not None]
    notes = list(planned.notes)
    if replicas is not None and len(seconds) == len(planned.sigmas):
        notes.append(f"on {replicas} replicas at best {duration(sum(seconds) / replicas)}.")
    return notes
