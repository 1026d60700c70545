"""What the pages in docs/ and the READMEs point to is there: files, configurations, commands.

A fenced block of `yaml` is either complete, which its sections tell (`methods`: a suite; `data` and `stages`: a
training; `command` or `entrypoint`: a job; `data`, `purifier` and `classifier`: a run), or a part of a run or a
training: then each of its sections is held by itself against the class that it belongs to.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from pydantic import BaseModel, TypeAdapter, ValidationError

from raycp.cli.main import app
from raycp.config import RunConfig, load_config, parse_config
from raycp.config.job import JobConfig
from raycp.config.suite import SuiteFile, load_suite, resolve_suite
from raycp.config.train import TrainConfig
from raycp.errors import ConfigError

ROOT = Path(__file__).resolve().parents[1]
PAGES = [*sorted((ROOT / "docs").glob("*.md")), ROOT / "README.md", ROOT / "cluster" / "README.md"]
SECTIONS: dict[str, type[BaseModel]] = {
    **dict.fromkeys(SuiteFile.model_fields, SuiteFile),
    **dict.fromkeys(TrainConfig.model_fields, TrainConfig),
    **dict.fromkeys(RunConfig.model_fields, RunConfig),
}
"""Of a suite, a training or a run; the ones that several have are taken as those of a run."""

FENCE = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```", re.M | re.S)
INLINE = re.compile(r"`([^`]+)`")
LINK = re.compile(r"\]\(([^)\s]+)\)")
PLACEHOLDER = re.compile(r"\b[A-Z]+\.yaml$")
REPOSITORY_FILE = re.compile(r"(?:configs|jobs|cluster|docs|tests|raycp)/[\w./-]+\.(?:yaml|py|md|png)")


def page_id(page: Path) -> str:
    return str(page.relative_to(ROOT))


def missing_links(text: str, folder: Path) -> list[str]:
    """Relative links of a page in this folder, and anchors in them, that lead nowhere."""
    missing = []
    for target in LINK.findall(FENCE.sub("", text)):
        file, _, anchor = target.partition("#")
        path = folder / file
        if re.match(r"[a-z]+:", target):
            continue
        if not path.exists() or (anchor and anchor not in anchors(path.read_text() if file else text)):
            missing.append(target)
    return missing


def anchors(text: str) -> set[str]:
    """Of the headings of a page, as GitHub makes them."""
    headings = re.findall(r"^#+ +(.+?) *$", FENCE.sub("", text), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def check_block(raw: Any) -> None:
    """Hold a YAML block against the classes of its sections; ConfigError or ValidationError if it does not fit."""
    assert isinstance(raw, dict), "a block is a mapping of sections"
    if "methods" in raw:
        resolve_suite(parse_config(SuiteFile, raw))
    elif "command" in raw or "entrypoint" in raw:
        parse_config(JobConfig, raw)
    elif {"data", "stages"} <= raw.keys():
        parse_config(TrainConfig, raw)
    elif {"data", "purifier", "classifier"} <= raw.keys():
        parse_config(RunConfig, raw)
    else:
        for name, section in raw.items():
            if name not in SECTIONS:
                raise ConfigError(f"{name} is no section; there are {', '.join(SECTIONS)}.")
            annotation: Any = SECTIONS[name].model_fields[name].annotation
            TypeAdapter(annotation).validate_python(section)


def commands(text: str) -> Iterator[list[str]]:
    """The words of every command of raycp in the code of a page."""
    blocks = [body for language, body in FENCE.findall(text) if language not in ("yaml", "python")]
    lines = [line for body in blocks for line in body.replace("\\\n", " ").splitlines()]
    lines += [code.replace("\n", " ").replace("\\|", "|") for code in INLINE.findall(FENCE.sub("", text))]
    for line in lines:
        if re.match(r"\s*(?:do )?(?:\w+=\S+ )*raycp [a-z]", line):
            for part in re.split(r"&&|;| \| ", line):
                words = shlex.split(part, comments=True)
                if "raycp" in words:
                    yield words[words.index("raycp") + 1 :]


def check_command(words: Sequence[str]) -> None:
    """Parse a command without running it; load the configuration of this repository that it names, if any.

    Raises:
        ConfigError: the file is not there, or does not take what is set.
        Exception: of typer; there is no such command or option, or too many arguments.
    """
    command: Any = typer.main.get_command(app)
    words = list(words)
    while hasattr(command, "commands"):
        if not words or words[0].startswith("-"):
            return
        assert words[0] in command.commands, f"there is no command {words[0]}"
        command = command.commands[words.pop(0)]
    options, rest, _ = command.make_parser(typer.Context(command)).parse_args(words)
    assert not rest, f"too many arguments: {rest}"
    file, overrides = options.get("config") or options.get("suite"), options.get("set_") or []
    if not isinstance(file, str) or not file.startswith("configs/") or PLACEHOLDER.search(file):
        return
    if command.name == "compare":
        load_suite(ROOT / file, overrides)
    else:
        load_config(TrainConfig if command.name == "train" else RunConfig, ROOT / file, overrides)


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_links_lead_somewhere(page: Path) -> None:
    assert missing_links(page.read_text(), page.parent) == []


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_files_that_are_named_are_there(page: Path) -> None:
    named = {name for code in INLINE.findall(page.read_text()) for name in REPOSITORY_FILE.findall(code)}
    there = [name for name in sorted(named) if PLACEHOLDER.search(name) or (ROOT / name).is_file()]
    assert there == sorted(named)


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_yaml_is_configuration(page: Path) -> None:
    for language, body in FENCE.findall(page.read_text()):
        if language == "yaml":
            try:
                check_block(yaml.safe_load(body))
            except (ConfigError, ValidationError) as err:
                pytest.fail(f"{page_id(page)}:\n{body}\n{err}")


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_commands_are_commands(page: Path) -> None:
    for words in commands(page.read_text()):
        print(f"raycp {shlex.join(words)}")  # shown by pytest if it fails
        check_command(words)


def test_every_page_is_in_the_index() -> None:
    index = ROOT / "docs" / "README.md"
    pages = [page.name for page in PAGES if page.parent == index.parent and page != index]
    assert len(pages) > 15
    assert [name for name in pages if f"({name})" not in index.read_text()] == []


def test_what_does_not_fit_is_found() -> None:
    """The tests above see what they look at, and mistakes in it."""
    texts = [page.read_text() for page in PAGES]
    assert sum(language == "yaml" for text in texts for language, _ in FENCE.findall(text)) > 15
    assert sum(len(list(commands(text))) for text in texts) > 100
    broken = (
        "[a](no.md) [b](training.md#no-such-heading) [c](training.md#what-is-computed) [d](https://e.f/g)"
    )
    assert missing_links(broken, ROOT / "docs") == ["no.md", "training.md#no-such-heading"]
    assert list(commands("```\nraycp show \\\n  RUN | head  # all\n```\n`raycp status\nRUN`, `raycp`")) == [
        ["show", "RUN"],
        ["status", "RUN"],
    ]


@pytest.mark.parametrize(
    "block",
    [
        {"purifier": {"kind": "edm", "model": {"path": "m"}, "num_steps": 18}},
        {"certify": {"sigma": [0.5]}},
        {"certfy": {"sigmas": [0.5]}},
        {"stages": [{"stage": "finetune", "steps": 1, "copies": 2}]},
        {"data": {"name": "digits"}, "purifier": {"kind": "none"}, "classifier": {"kind": "directory"}},
        {"data": {"name": "digits"}, "methods": {"a": {"purifier": {"kind": "none"}}}},
    ],
)
def test_a_block_that_does_not_fit(block: dict[str, Any]) -> None:
    with pytest.raises((ConfigError, ValidationError)):
        check_block(block)


@pytest.mark.parametrize(
    "command",
    [
        "show RUN --pared",
        "cascade RUN RUN",
        "logs imprt FILE",
        "certify configs/digits/no.yaml --out RUN",
        "certify configs/digits/none.yaml --out RUN --set certify.sigma=[0.5]",
        "train configs/digits/train.yaml --out RUN --set stages.9.steps=1",
        "compare configs/digits/compare.yaml --out RUN --set methods.none.purifier.kind=non",
    ],
)
def test_a_command_that_does_not_fit(command: str) -> None:
    with pytest.raises(
        Exception, match=r"(?i)no such (option|file)|too many|no command|must be|index|unknown|known"
    ):
        check_command(command.split())
