"""`raycp stop`."""

from __future__ import annotations

from typing import Annotated

import typer

from raycp.cli.dashboard import DashboardOption, address_words


def stop(
    submission_id: Annotated[
        str, typer.Argument(metavar="ID", help="Submission id, as raycp jobs lists it.", show_default=False)
    ],
    address: DashboardOption = None,
    wait: Annotated[
        float, typer.Option(min=0, metavar="S", help="Seconds to wait until the job has ended.")
    ] = 120.0,
) -> None:
    """Stop a job; what it has computed is kept, and the same submission resumes.

    Asks the job to end, which then writes down what it holds, and waits until
    it has.

    \b
    Example:
      raycp stop raycp-digits-1
    """
    from raycp.distributed.dashboard import connect
    from raycp.distributed.jobs import find_job
    from raycp.distributed.jobs import stop as stop_job

    client = connect(address)
    before = find_job(client, submission_id)
    if before.has_ended:
        typer.echo(f"{submission_id} had ended already: {before.status}", err=True)
        return
    job = stop_job(client, submission_id, wait)
    typer.echo(f"{submission_id} {job.status}", err=True)
    if job.status == "STOPPED" and job.run is not None:
        typer.echo(f"what it computed is kept in {job.run}", err=True)
    if job.status == "STOPPED" and "resume" in job.metadata:
        typer.echo(f"resume with: {job.metadata['resume']}{address_words(address)}", err=True)
