"""`raycp weights`: published files, fetched, looked into and converted."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from raycp.cli.weights_check import check
from raycp.cli.weights_fetch import fetch

if TYPE_CHECKING:
    from raycp.models.file_facts import FileFacts

weights = typer.Typer(
    name="weights",
    no_args_is_help=True,
    help="Fetch published weights files, look into them, convert and check them.",
)
weights.command()(fetch)
weights.command()(check)

_File = Annotated[str, typer.Argument(metavar="FILE", help="A weights file.", show_default=False)]


@weights.command()
def inspect(
    file: _File,
    tensors: Annotated[bool, typer.Option("--tensors", help="List every tensor with its shape.")] = False,
) -> None:
    """Print what a weights file is: format, network, numbers, hash. No code in it is run.

    Knows safetensors, torch files, flax checkpoints, and the pickles of NVlabs'
    EDM, whose embedded source is neither run nor needed.

    \b
    Examples:
      raycp weights inspect cd_imagenet64_lpips.pt
      raycp weights inspect --tensors edm-cifar10-32x32-uncond-vp.pkl
    """
    from raycp.models.file_facts import file_facts
    from raycp.published import recognised

    facts = file_facts(file)
    for line in lines_of(facts):
        typer.echo(line)
    if found := recognised(Path(file).name, facts.sha256):
        entry, how = found
        typer.echo(f"licence    {entry.licence}, as {entry.name} is published ({how}): {entry.page}")
    if tensors:
        for name, tensor in facts.state.items():
            typer.echo(f"{name}  {str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)}")


@weights.command()
def convert(
    file: _File,
    out: Annotated[
        str, typer.Option("--out", "-o", metavar="DIR", help="Folder to write.", show_default=False)
    ],
    parametrisation: Annotated[
        Literal["consistency", "edm", "ddpm"] | None,
        typer.Option("--as", help="How the network's output becomes an image.", show_default=False),
    ] = None,
    image_size: Annotated[
        int | None,
        typer.Option(min=1, metavar="PIXELS", help="Height and width of its images.", show_default=False),
    ] = None,
    head_width: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="CHANNELS",
            help="Of an attention head; else as published: 64, or a quarter of its layer (improved-diffusion).",
            show_default=False,
        ),
    ] = None,
    num_steps: Annotated[
        int | None,
        typer.Option(
            min=2,
            metavar="N",
            help="Grid times of a consistency model [40]; steps of a ddpm model [4000].",
            show_default=False,
        ),
    ] = None,
    betas: Annotated[
        Literal["cosine", "linear"], typer.Option(help="Noise schedule of a ddpm model.")
    ] = "cosine",
    unconditional: Annotated[
        bool,
        typer.Option("--unconditional", help="Of a class-conditional network, with the mean of its classes."),
    ] = False,
) -> None:
    """Convert a published denoiser into a model folder that raycp reads.

    The pickles of NVlabs' EDM say all that is needed. The files of OpenAI do not
    say whether they are consistency models, EDM denoisers or DDPMs: give --as;
    those of consistency_models and improved-diffusion do not say the size of
    their images, either: give --image-size.

    \b
    Examples:
      raycp weights convert edm-cifar10-32x32-uncond-vp.pkl --out models/edm-cifar10
      raycp weights convert cd-lpips/checkpoints/checkpoint_80 --as consistency --out models/cd-cifar10
      raycp weights convert cd_imagenet64_lpips.pt --as consistency --image-size 64 --out models/cd
      raycp weights convert cifar10_uncond_50M_500K.pt --as ddpm --image-size 32 --out models/improved
    """
    from raycp.models.conversion import Conversion, convert_denoiser

    conversion = Conversion(parametrisation, image_size, head_width, num_steps, betas, unconditional)
    facts, bundle = convert_denoiser(file, out, conversion)
    for line in lines_of(facts):
        typer.echo(line)
    if bundle is None:
        typer.echo(f"written    {out}; class-conditional: purifier.model.class_label must choose the class")
    else:
        typer.echo(f"written    {out}; as a model {bundle.sha256}")


def lines_of(facts: FileFacts) -> list[str]:
    """The facts, one in a line."""
    dtypes = ", ".join(f"{count} {dtype}" for dtype, count in facts.dtypes.items())
    rows = {
        "format": facts.format,
        "network": facts.network,
        "numbers": f"{facts.numbers:,} in {len(facts.state):,} tensors ({dtypes})",
        "bytes": f"{facts.bytes:,}",
        "sha256": facts.sha256,
        "state_key": facts.state_key or "",
        "beside it": ", ".join(facts.others),
        "prefix": facts.prefix,
        "arguments": ", ".join(f"{name}={value!r}" for name, value in facts.arguments.items()),
    }
    return [f"{name:10} {value}" for name, value in rows.items() if value]
