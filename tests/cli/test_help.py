"""Help answers at once, and every command explains itself."""

from __future__ import annotations

import resource
import subprocess
import sys

import pytest

COMMANDS = ["certify", "predict", "train", "show", "report", "bench", "demo", "simulate", "plan", "verify"]


def help_page(*arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "raycp.cli.main", *arguments, "--help"],
        capture_output=True,
        text=True,
        check=True,
        env={"COLUMNS": "100", "PATH": ""},
    )
    return done.stdout


def cpu_seconds() -> float:
    """Of the processes that this one has waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def test_help_is_fast() -> None:
    """By CPU time, because machines are shared; with torch or ray imported it would take seconds."""
    seconds = []
    for _ in range(5):
        start = cpu_seconds()
        help_page()
        seconds.append(cpu_seconds() - start)
    assert min(seconds) < 0.5


def test_the_first_page_names_every_command() -> None:
    page = help_page()
    for command in COMMANDS:
        assert f" {command} " in page


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example(command: str) -> None:
    page = help_page(command)
    assert f"raycp {command}" in page.partition("Example")[2]


def test_version() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "raycp.cli.main", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("raycp 0.")
