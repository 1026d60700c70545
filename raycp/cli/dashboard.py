"""The option by which the commands for jobs find a cluster."""

from __future__ import annotations

from typing import Annotated

import typer

DashboardOption = Annotated[
    str | None,
    typer.Option(
        "--address",
        metavar="URL",
        help="Dashboard of the cluster: http://HOST:8265, or HOST:8265.",
        show_default="RAY_API_SERVER_ADDRESS",
    ),
]


def address_words(address: str | None) -> str:
    """What a command that is printed for the user needs to find the same cluster; nothing if the environment says."""
    if address is None:
        return ""
    from raycp.distributed.dashboard import dashboard_url

    return f" --address {dashboard_url(address)}"
