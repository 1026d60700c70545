"""What the files in cluster/ hold, in the form that tests ask for it."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer
from strict_schema import read_yaml

from raycp.cli.main import app
from raycp.cli.options import engine_overrides

ROOT = Path(__file__).resolve().parents[2]
CLUSTER = ROOT / "cluster"
KUBERAY, RAY_UP, MONITORING = CLUSTER / "kuberay", CLUSTER / "ray-up", CLUSTER / "monitoring"
README = CLUSTER / "README.md"
AUTOSCALING = CLUSTER / "autoscaling.yaml"
RAY_UP_FILES = sorted(RAY_UP.glob("*.yaml"))
PROMETHEUS_FILES = sorted(MONITORING.glob("*.yml"))
# Programs and dashboards have tests of their own.
TEXTS = {
    path: path.read_text()
    for path in sorted(CLUSTER.rglob("*"))
    if path.is_file() and path.suffix in ("", ".dockerignore", ".md", ".yaml", ".yml")
}


@dataclass(frozen=True)
class Container:
    """A container of a pod template, with what it shares with its pod."""

    place: str
    is_head: bool
    spec: dict[str, Any]
    pod: dict[str, Any]

    @property
    def amounts(self) -> dict[str, float]:
        """Its limits as numbers: cpu, memory in bytes, nvidia.com/gpu."""
        return {kind: quantity(amount) for kind, amount in self.spec["resources"]["limits"].items()}


@dataclass(frozen=True)
class RayCluster:
    """A RayCluster, or that of a RayJob."""

    path: Path
    manifest: dict[str, Any]

    @property
    def spec(self) -> dict[str, Any]:
        spec = self.manifest["spec"]
        return spec if self.manifest["kind"] == "RayCluster" else spec["rayClusterSpec"]

    @property
    def groups(self) -> list[dict[str, Any]]:
        return self.spec["workerGroupSpecs"]

    def containers(self) -> Iterator[Container]:
        for group in (self.spec["headGroupSpec"], *self.groups):
            pod = group["template"]["spec"]
            for container in pod["containers"]:
                name = group.get("groupName", "head")
                yield Container(f"{self.path.name} {name}", "groupName" not in group, container, pod)


def of_name(value: Any) -> str:
    """What a file, a cluster or a container is called in the name of a test."""
    if isinstance(value, Container):
        return value.place
    return value.path.name if isinstance(value, RayCluster) else value.name


def quantity(amount: str | int) -> float:
    """A Kubernetes quantity."""
    number, unit = re.fullmatch(r"([0-9.]+)(m|[KMGT]i)?", str(amount)).groups()
    factors = {None: 1, "m": 1e-3, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}
    return float(number) * factors[unit]


CLUSTERS = [
    RayCluster(path, manifest)
    for path in sorted(KUBERAY.glob("*.yaml"))
    if (manifest := read_yaml(path))["kind"] in ("RayCluster", "RayJob")
]
JOBS = [cluster for cluster in CLUSTERS if cluster.manifest["kind"] == "RayJob"]
CONTAINERS = [container for cluster in CLUSTERS for container in cluster.containers()]


COMMANDS = typer.main.get_command(app).commands


@dataclass(frozen=True)
class Command:
    """A command of raycp, parsed by its own command line but not run."""

    name: str
    values: dict[str, Any]

    @property
    def overrides(self) -> list[str]:
        """What the command itself makes of --set, --address and --replicas."""
        own = engine_overrides(self.values.get("address"), self.values.get("replicas"))
        return [*(self.values.get("set_") or []), *own]


def parse(words: list[str]) -> Command:
    """Parse `raycp NAME ...`; the command line's own error says what is wrong with it."""
    raycp, name, *rest = words
    assert raycp == "raycp" and name in COMMANDS, words
    with COMMANDS[name].make_context(name, rest) as context:
        return Command(name, context.params)


def shell_lines(text: str) -> list[str]:
    """The commands in the fenced blocks of a page, one a line."""
    blocks = re.findall(r"^```\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    return [line for block in blocks for line in block.replace("\\\n", " ").splitlines() if line.strip()]


def raycp_commands(line: str) -> list[list[str]]:
    """The `raycp ...` in a line of shell: as it is, after `NAME=value`, given to `ray job submit --` or to an image."""
    words = shlex.split(line, comments=True)
    before = zip(["--", *words], words)
    starts = [
        n for n, (last, word) in enumerate(before) if word == "raycp" and re.search("^--$|=|/raycp:", last)
    ]
    return [words[start:end] for start, end in zip(starts, [*starts[1:], None])]
