"""The image: what it installs, what goes into it, and what those who start it expect of it."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib

from cluster_files import CLUSTER, ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
DOCKERFILE = (CLUSTER / "Dockerfile").read_text()


def instructions(name: str) -> list[str]:
    """What follows an instruction, its lines joined."""
    joined = DOCKERFILE.replace("\\\n", " ")
    return re.findall(rf"^{name} (.*)$", joined, re.MULTILINE)


def test_installs_what_was_tested() -> None:
    """The line that lists the dependencies, run here, gives those of the project."""
    (program,) = re.findall(r"python -c '(import tomllib.*?)'", DOCKERFILE)
    text = program.replace("/src/pyproject.toml", str(ROOT / "pyproject.toml"))
    printed = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=True).stdout
    assert printed.splitlines() == PROJECT["dependencies"]
    dependencies, cloud, package = [line for line in instructions("RUN") if "pip install" in line]
    assert "--constraint /src/constraints.txt --requirement /tmp/requirements.txt" in dependencies
    assert cloud.startswith("if [ -n") and "--constraint" not in cloud
    assert "--no-deps" in package and "pip check" in package
    assert re.search(r"^ARG BASE_IMAGE=python:3\.1[1-9]-slim", DOCKERFILE, re.MULTILINE)


def test_suits_who_starts_it() -> None:
    assert not instructions("ENTRYPOINT")  # KubeRay and `ray up` give commands of their own
    assert any(
        line.startswith("HOME=/home/ray ") for line in instructions("ENV")
    )  # `ray up` places mounts by it
    assert "rsync" in DOCKERFILE and "openssh-client" in DOCKERFILE
    assert instructions("USER")[-1] == "1000"
    # Ray runs all commands in login shells, which do not keep the image's PATH.
    assert any("bash --login" in line and "ray --version" in line for line in instructions("RUN"))


def test_holds_no_secrets_and_names_no_hosts() -> None:
    assert not re.search(r"TOKEN|PASSWORD|SECRET|ACCESS_KEY|https?://", DOCKERFILE)


def test_only_what_it_needs_goes_to_the_builder() -> None:
    ignore = (CLUSTER / "Dockerfile.dockerignore").read_text().splitlines()
    everything, *patterns = [line for line in ignore if not line.startswith("#")]
    assert everything == "*"
    let_in = {pattern[1:] for pattern in patterns if pattern.startswith("!")}
    sources = {source for source in re.findall(r"source=([^, ]+)", DOCKERFILE) if source != "."}
    sources |= {line.split()[0] for line in instructions("COPY")}
    # Beside these, what pyproject.toml names for the wheel.
    assert let_in == {*sources, "raycp", PROJECT["readme"], *PROJECT["license-files"]}
    assert all((ROOT / name).exists() for name in let_in)
