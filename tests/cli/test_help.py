"""Help answers at once, and every command explains itself."""

from __future__ import annotations

import resource
import subprocess
import sys

import pytest

COMMANDS = ["certify", "predict", "evaluate", "compare", "train", "status", "show", "report", "cascade", "export",
            "submit", "jobs", "stop", "doctor", "bench", "demo", "simulate", "plan", "verify", "logs",
            "weights"]  # fmt: skip


def help_page(*arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "raycp.cli.main", *arguments, "--help"],
        capture_output=True,
        text=True,
        check=True,
        env={"COLUMNS": "100", "PATH": ""},
    )
    return done.stdout


BARE = """
import typer
app = typer.Typer(rich_markup_mode="rich")
for name in "ab":
    app.command(name)(lambda x: None)
app(["--help"])
"""


def cpu_seconds(*arguments: str) -> float:
    """Of a Python process; machines are shared."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, *arguments], stdout=subprocess.DEVNULL, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def test_help_is_fast() -> None:
    """At most twice what a typer program of two commands takes; with torch or ray imported it would be ten times."""
    pairs = [(cpu_seconds("-m", "raycp.cli.main", "--help"), cpu_seconds("-c", BARE)) for _ in range(5)]
    ours, bare = (min(values) for values in zip(*pairs, strict=True))
    assert ours < 2 * bare


def test_the_first_page_names_every_command() -> None:
    page = help_page()
    for command in COMMANDS:
        assert f" {command} " in page


@pytest.mark.parametrize(
    "command",
    [
        *COMMANDS[:-2],
        "logs import",
        "logs audit",
        "weights inspect",
        "weights convert",
        "weights fetch",
        "weights check",
    ],
)
def test_every_command_has_help_with_an_example(command: str) -> None:
    page = help_page(*command.split())
    assert f"raycp {command}" in page.partition("Example")[2]


def test_version() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "raycp.cli.main", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("raycp 0.")
