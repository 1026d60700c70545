"""The list of published files: consistent in itself, with the commands it prints, and with the documentation."""

from __future__ import annotations

import re
import shlex
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
import typer.main

from raycp.cli.main import app
from raycp.errors import ConfigError
from raycp.published import PUBLISHED, Published, PublishedFile, find, missing_help
from raycp.published.entries import ENTRIES
from raycp.published.entry import NO_LICENCE

DOCS = Path(__file__).resolve().parents[2] / "docs" / "weights.md"
LICENCES = {"MIT", "Apache-2.0", "BSD-2-Clause", "CC-BY-NC-SA-4.0", NO_LICENCE, "see its page"}
CONVERTED = [entry for entry in ENTRIES if entry.convert is not None]
every_entry = pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)


def files_of(entry: Published) -> list[PublishedFile]:
    """All files, those that are taken instead of others included."""
    found: list[PublishedFile] = []
    for first in entry.files:
        file: PublishedFile | None = first
        while file is not None:
            found.append(file)
            file = file.otherwise
    return found


def parsed(command: str) -> dict[str, object]:
    """What the command line makes of a command: its parameters, by name. Nothing is run."""
    program, *words = shlex.split(command)
    assert program == "raycp"
    here: Any = typer.main.get_command(app)
    for verb in words[:2]:
        here = here.commands[verb]
    return dict(here.make_context(words[1], words[2:]).params)


def test_names_and_places_are_distinct() -> None:
    assert len(PUBLISHED) == len(ENTRIES) > 25
    last_parts = [PurePosixPath(entry.place).name for entry in ENTRIES]
    assert len(set(last_parts)) == len(ENTRIES), "a missing path must name one model"
    assert set(PUBLISHED).isdisjoint(
        set(last_parts) - {entry.place.removeprefix("models/") for entry in ENTRIES}
    )


@every_entry
def test_an_entry_is_complete(entry: Published) -> None:
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", entry.name) and len(entry.name) <= 30
    assert entry.licence in LICENCES
    assert entry.page.startswith("https://") and entry.place.startswith("models/")
    assert bool(entry.files) != bool(entry.by_hand)
    assert entry.convert is None or len(entry.files) == 1
    paths = [file.path for file in files_of(entry)]
    assert len(set(paths)) == len(paths)
    for file in files_of(entry):
        assert file.url.startswith("https://") and "?" not in file.url and "/blob/" not in file.url
        assert file.url.endswith(f"/{file.path}") and ".." not in file.path
        assert file.sha256 is None or re.fullmatch(r"[0-9a-f]{8}|[0-9a-f]{64}", file.sha256)
        assert bool(file.sha256) == bool(file.sha256_from), "a hash without a source is a rumour"
    for file in entry.files[:-1]:
        assert file.otherwise is None


def test_hashes_begin_with_the_digits_in_the_names_of_the_files() -> None:
    """The convention of torch.hub; four of these hashes were computed from the files."""
    named = {
        file.path: (digits[1], file.sha256)
        for entry in ENTRIES
        for file in entry.files
        if (digits := re.search(r"-([0-9a-f]{8})\.(?:th|pth)$", file.path))
    }
    assert len(named) == 6
    for path, (digits, sha256) in named.items():
        assert sha256 is not None and sha256.startswith(digits), path
    assert sum(len(sha256 or "") == 64 for _, sha256 in named.values()) == 4


def test_backbones_are_those_that_torchvision_names() -> None:
    from torchvision import models

    for name, weights in {
        "vgg16-imagenet": models.VGG16_Weights.IMAGENET1K_V1,
        "alexnet-imagenet": models.AlexNet_Weights.IMAGENET1K_V1,
        "squeezenet-imagenet": models.SqueezeNet1_1_Weights.IMAGENET1K_V1,
    }.items():
        entry, network = PUBLISHED[name], type(weights).__name__.removesuffix("_Weights").lower()
        assert PurePosixPath(entry.place).name == weights.url.rpartition("/")[2]
        assert f"m.{network}(weights='IMAGENET1K_V1')" in entry.by_hand and network in models.list_models()


def test_the_resnet_is_the_one_of_the_parity_tests(shared_data: Path) -> None:
    (file,) = PUBLISHED["resnet56-cifar10"].files
    assert (shared_data / "parity" / "cifar-resnet-th" / file.path).stat().st_size == file.size


@every_entry
def test_its_commands_are_commands(entry: Published) -> None:
    fetch = parsed(entry.fetch_command("/some folder"))
    assert (fetch["name"], fetch["out"], fetch["list_"]) == (entry.name, "/some folder", False)
    assert parsed(entry.fetch_command())["out"] is None
    command = entry.convert_command()
    assert (command is None) == (entry.convert is None)
    if command is not None:
        convert = parsed(command)
        assert convert["file"] == f"models/published/{entry.name}/{entry.files[0].path}"
        assert convert["out"] == entry.place == f"models/{entry.name}"
        edm = "nvlabs" in entry.files[0].url
        assert convert["parametrisation"] == (
            None
            if edm
            else entry.name.partition("-")[0].replace("cd", "consistency").replace("ct", "consistency")
        )
        wants_size = ("imagenet64" in entry.name and not edm) or entry.name.startswith("ddpm")
        assert convert["image_size"] == ((64 if "imagenet64" in entry.name else 32) if wants_size else None)


def test_only_consistency_training_on_imagenet_has_another_grid() -> None:
    steps = {entry.name: parsed(entry.convert_command() or "")["num_steps"] for entry in CONVERTED}
    assert {name: value for name, value in steps.items() if value is not None} == {"ct-imagenet64": 201}


def test_unknown_names() -> None:
    assert find("ddpm-cifar10").name == "ddpm-cifar10"
    with pytest.raises(ConfigError, match="is called 'cd-lpips-cifar'; did you mean cd-lpips-cifar10"):
        find("cd-lpips-cifar")
    with pytest.raises(ConfigError, match="did you mean resnet56-cifar10"):
        find("resnet56_cifar10")
    with pytest.raises(ConfigError, match="'qqqq'; `raycp weights fetch` lists all"):
        find("qqqq")


@every_entry
def test_help_for_a_missing_model_leads_to_its_place(entry: Published) -> None:
    """The commands in it, followed, end at the path that was missing."""
    for folder in ("models", "/data/shared models"):
        path = f"{folder}/{PurePosixPath(entry.place).name}"
        text = missing_help(path)
        assert text is not None and entry.licence in text
        commands = [parsed(command) for command in re.findall(r"`([^`]*)`", text)]
        if not entry.files:
            assert commands == [] and entry.page in text
            continue
        fetch = commands[0]
        assert fetch["name"] == entry.name
        into = str(fetch["out"] or entry.folder)
        if entry.convert is not None:
            assert commands[1]["file"] == f"{into}/{entry.files[0].path}"
            assert commands[1]["out"] == path
        elif entry.is_file:
            assert f"{into}/{entry.files[0].path}" == path
        else:
            assert into == path


@pytest.mark.parametrize(
    ("path", "command"),
    [
        ("models/cd-lpips-cifar10/unet/config.json", "models/cd-lpips-cifar10`"),
        ("models/cd-lpips-cifar10/unet", "raycp weights convert"),
        (
            "m/vit-base-imagenet/config.json",
            "raycp weights fetch vit-base-imagenet --out m/vit-base-imagenet`",
        ),
        ("models/published/cd-l1-cifar10/checkpoint_80", "raycp weights fetch cd-l1-cifar10`"),
        ("resnet20-12fca82f.th", "raycp weights fetch resnet20-cifar10 --out .`"),
    ],
)
def test_help_for_the_files_of_a_model(path: str, command: str) -> None:
    assert command in (missing_help(path) or "")


@pytest.mark.parametrize(
    "path", ["models/classifier", "models", "", "config.json", "models/resnet56-4bfd9763.th/config.json", "/"]
)
def test_no_help_for_other_paths(path: str) -> None:
    assert missing_help(path) is None


def table() -> str:
    """The table of docs/weights.md."""
    lines = ["| NAME | what | licence | SHA-256 known | place |", "| --- | --- | --- | --- | --- |"]
    for entry in ENTRIES:
        known = [file.sha256 for file in files_of(entry) if file.sha256]
        weights = "" if not known else "yes" if len(known[0]) == 64 else f"{known[0]}..."
        where = f"[by hand]({entry.page})" if not entry.files else f"`{entry.place}`"
        lines.append(
            f"| [`{entry.name}`]({entry.page}) | {entry.what} | {entry.licence} | {weights} | {where} |"
        )
    return "\n".join(lines)


def test_the_documentation_has_this_table() -> None:
    """Where it differs, put the table that the failure shows into docs/weights.md."""
    assert table() in DOCS.read_text(encoding="utf-8"), f"\n{table()}"


def test_the_commands_of_the_reproduction_page_are_right() -> None:
    """Names are known, and a conversion is the entry's own, into the place that configurations name."""
    text = (DOCS.parent / "reproduce.md").read_text()
    fetched = [name for names in re.findall(r"^for name in ([^\n;]+)", text, re.M) for name in names.split()]
    assert len(fetched) >= 10
    for name in fetched:
        find(name)
    converted = re.findall(r"^raycp weights convert .*$", text, re.M)
    given = {(entry.convert_command() or ""): entry for entry in ENTRIES}
    for command in converted:
        plain = command.replace(" --unconditional", "").replace("-unconditional", "")
        assert given[plain].name in fetched
    for command in [*converted, *re.findall(r"`(raycp (?:train|certify) [^`]*)`", text)]:
        words = shlex.split(command)
        assert words[1] == "weights" or (DOCS.parents[1] / words[2]).is_file()
