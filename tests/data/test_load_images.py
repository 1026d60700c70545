"""load_images: what every layout has in common."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import TypeAdapter

from raycp.config.data import DataConfig
from raycp.data import load, load_images
from raycp.errors import DataError

LAYOUTS = [
    "cifar10", "cifar100", "mnist", "fashion_mnist", "kmnist", "downsampled_imagenet", "parquet", "folder", "npz",
]  # fmt: skip


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_missing_path_is_named_in_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    config = TypeAdapter[DataConfig](DataConfig).validate_python({"name": name, "path": "data/nowhere"})
    with pytest.raises(DataError) as caught:
        load_images(config)
    assert str(caught.value) == (
        f"data.path: cannot read {tmp_path / 'data' / 'nowhere'}: No such file or directory."
    )


@pytest.mark.parametrize("name", LAYOUTS)
def test_the_home_folder_is_understood(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    config = TypeAdapter[DataConfig](DataConfig).validate_python({"name": name, "path": "~/nowhere"})
    with pytest.raises(DataError, match=f"cannot read {tmp_path / 'nowhere'}: No such file"):
        load_images(config)


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_url_is_refused(name: str) -> None:
    config = TypeAdapter[DataConfig](DataConfig).validate_python({"name": name, "path": "s3://bucket/x"})
    with pytest.raises(
        DataError, match=r"data\.path is s3://bucket/x, but data sets are read from local disks"
    ):
        load_images(config)


def test_what_the_system_refuses_is_a_data_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(config: object) -> None:
        raise PermissionError(13, "Permission denied", str(tmp_path / "x"))

    monkeypatch.setattr(load, "read_folder", refuse)
    config = TypeAdapter[DataConfig](DataConfig).validate_python({"name": "folder", "path": str(tmp_path)})
    with pytest.raises(DataError, match=f"cannot read {tmp_path / 'x'}: Permission denied"):
        load_images(config)
