"""`raycp weights fetch`: what it prints, where, and its exit status."""

from __future__ import annotations

import hashlib
import random
import re
import shlex
import subprocess
import sys
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from file_server import Fault, FileServer, Served

from raycp.cli import weights_fetch
from raycp.config.models import DenoiserModel
from raycp.published import PUBLISHED

Run = Callable[..., tuple[int, str, str]]

BODY = random.Random(0).randbytes(3_000_000)
SHA256 = hashlib.sha256(BODY).hexdigest()


@pytest.fixture
def run(raycp: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """`raycp`, in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    return raycp


@pytest.fixture
def local(server: FileServer, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, bytes], Served]:
    """Serve the one file of an entry from this machine, whatever is in it."""

    def local_(name: str, body: bytes) -> Served:
        entry = PUBLISHED[name]
        (file,) = entry.files
        served = Served(body)
        url = server.serve(f"/{file.path}", served)
        file = replace(file, url=url, sha256=None, sha256_from="", size=None)
        monkeypatch.setitem(PUBLISHED, name, replace(entry, files=(file,)))
        return served

    return local_


def rows(text: str) -> dict[str, str]:
    return {line[:10].strip(): line[11:] for line in text.splitlines()}


def test_a_model_that_is_to_be_converted(run: Run, local: Callable[[str, bytes], Served]) -> None:
    local("edm-vp-cifar10", BODY)
    status, out, err = run("weights", "fetch", "edm-vp-cifar10")
    path = "models/published/edm-vp-cifar10/edm-cifar10-32x32-uncond-vp.pkl"
    assert status == 0 and Path(path).read_bytes() == BODY
    assert rows(out) == {
        "fetched": f"{path}, 3,000,000 bytes",
        "sha256": SHA256,
        "checked": "the length stated by the server",
        "card": "models/published/edm-vp-cifar10/edm-vp-cifar10.fetched.json",
        "next": f"raycp weights convert {path} --out models/edm-vp-cifar10",
    }
    first, second, last = err.splitlines()
    assert first.startswith("edm-vp-cifar10: licence CC-BY-NC-SA-4.0 (https://github.com/NVlabs/edm")
    assert second.startswith("edm-cifar10-32x32-uncond-vp.pkl: 3,000,000 bytes, from http://127.0.0.1:")
    assert last == "edm-cifar10-32x32-uncond-vp.pkl: 3 MB of 3 MB, 100%"
    status, out, err = run("weights", "fetch", "edm-vp-cifar10")
    assert (status, err) == (0, "")
    assert rows(out) == {
        "there": f"{path}, whole",
        "next": f"raycp weights convert {path} --out models/edm-vp-cifar10",
    }


def test_a_file_that_is_used_as_it_is(
    run: Run, local: Callable[[str, bytes], Served], tmp_path: Path
) -> None:
    local("resnet110-cifar10", BODY)
    status, out, _ = run("weights", "fetch", "resnet110-cifar10", "--sha256", SHA256.upper())
    assert status == 0 and rows(out)["ready"] == "models/resnet110-1d1ed7c2.th"
    assert rows(out)["checked"] == "the SHA-256 given with --sha256; the length stated by the server"
    status, out, _ = run("weights", "fetch", "resnet110-cifar10", "--out", tmp_path / "else where")
    assert status == 0 and rows(out)["ready"] == str(tmp_path / "else where" / "resnet110-1d1ed7c2.th")


def test_the_next_command_makes_the_model(
    run: Run, local: Callable[[str, bytes], Served], shared_data: Path
) -> None:
    """A small checkpoint in the published format, fetched and converted by the commands as printed."""
    from raycp.models import read_denoiser

    local("cd-lpips-cifar10", (shared_data / "parity" / "jcm-flax-msgpack" / "checkpoint_80").read_bytes())
    status, out, _ = run("weights", "fetch", "cd-lpips-cifar10", "--out", "some where")
    assert status == 0
    program, *words = shlex.split(rows(out)["next"])
    assert program == "raycp"
    status, out, err = run(*words)
    assert status == 0, err
    schedule = read_denoiser(DenoiserModel(path="models/cd-lpips-cifar10")).recipe["schedule"]
    assert schedule["parametrisation"] == "consistency" and schedule["num_steps"] == 18


def test_a_wrong_hash(run: Run, local: Callable[[str, bytes], Served]) -> None:
    local("ddpm-cifar10", BODY)
    status, out, err = run("weights", "fetch", "ddpm-cifar10", "--sha256", "0" * 64)
    assert (status, out) == (1, "")
    assert f"is {'0' * 64}, but that of what arrived is {SHA256}. It was deleted" in err
    assert not list(Path("models").rglob("*.p*"))


def test_a_file_that_is_gone(run: Run, local: Callable[[str, bytes], Served]) -> None:
    local("ddpm-cifar10", BODY).faults = deque([Fault(status=404)])
    status, out, err = run("weights", "fetch", "ddpm-cifar10")
    assert (status, out) == (1, "")
    assert "cifar10_uncond_50M_500K.pt: the server answers 404 Not Found: it has no such file" in err


def test_the_list(run: Run, server: FileServer) -> None:
    status, out, err = run("weights", "fetch")
    assert (status, err) == (0, "")
    head, *lines = out.splitlines()
    assert head.split() == ["name", "size", "licence", "what"]
    assert [line.split()[0] for line in lines] == list(PUBLISHED)
    assert re.search(r"cd-lpips-finetuned-cifar10 +902 MB +none given +the consistency model as", out)
    assert re.search(r"vit-base-cifar10 +not known +see its page", out)
    assert re.search(r"cohen-resnet110-cifar10 +by hand", out) and re.search(r"diffusers +1.18 GB", out)
    assert run("weights", "fetch", "--list")[1] == out
    assert server.asked == []


def test_what_is_known_of_one(run: Run) -> None:
    status, out, _ = run("weights", "fetch", "--list", "resnet56-cifar10")
    assert status == 0
    assert rows(out) == {
        "what": "ResNet-56 classifier, CIFAR-10",
        "licence": "BSD-2-Clause",
        "page": "https://github.com/akamaster/pytorch_resnet_cifar10",
        "size": "3.47 MB",
        "file": "https://github.com/akamaster/pytorch_resnet_cifar10/raw/master/pretrained_models/"
        "resnet56-4bfd9763.th; 3,471,733 bytes; SHA-256 "
        "4bfd97631478d6b638d2764fd2baff3edb1d7d82252d54439343b6596b9b5367 "
        "(the file in the git repository, hashed)",
        "fetch": "raycp weights fetch resnet56-cifar10",
        "place": "models/resnet56-4bfd9763.th",
    }
    assert not Path("models").exists()
    out = run("weights", "fetch", "--list", "resnet110-cifar10")[1]
    assert "SHA-256 1d1ed7c2... (the digits in the file's name)" in out
    out = run("weights", "fetch", "--list", "vgg16-imagenet")[1]
    assert rows(out)["by hand"].startswith("torchvision fetches it: python -c")
    out = run("weights", "fetch", "--list", "vit-base-cifar10")[1]
    assert "or else https://huggingface.co/aaraki/" in out
    out = run("weights", "fetch", "--list", "cohen-resnet110-cifar10")[1]
    assert rows(out)["by hand"].startswith("They are in an archive on Google Drive") and "fetch " not in out


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["cd-lpips"], 2, "no published model is called 'cd-lpips'; did you mean cd-lpips-cifar10"),
        (["cohen-resnet110-cifar10"], 1, "cannot be fetched: They are in an archive on Google Drive"),
        (["resnet56-cifar10", "--sha256", "12"], 2, "must be 64 hexadecimal digits, got '12'"),
        (["resnet56-cifar10", "--sha256", "0" * 64], 2, "but that of resnet56-cifar10 is 4bfd9763"),
        (
            ["vit-base-imagenet", "--sha256", "0" * 64],
            2,
            "--sha256 is for one file, and vit-base-imagenet has 3",
        ),
        (["--out", "models"], 2, "--out and --sha256 are for fetching a NAME"),
        (
            ["resnet56-cifar10", "--list", "--sha256", "0" * 64],
            2,
            "--out and --sha256 are for fetching a NAME",
        ),
        (["resnet56-cifar10", "--out", "gs://models"], 2, "--out must be a folder on this machine"),
    ],
)
def test_wrong_usage(run: Run, arguments: list[str], status: int, said: str) -> None:
    found, out, err = run("weights", "fetch", *arguments)
    assert (found, out) == (status, "")
    assert said in re.sub(r"[\s│]+", " ", err)


def test_progress_in_a_log(
    run: Run, local: Callable[[str, bytes], Served], monkeypatch: pytest.MonkeyPatch
) -> None:
    local("ddpm-cifar10", BODY)
    monkeypatch.setattr(weights_fetch, "_PLAIN_SECONDS", 0.0)
    _, _, err = run("weights", "fetch", "ddpm-cifar10")
    shares = [int(share) for share in re.findall(r"cifar10_uncond_50M_500K.pt: .* MB of 3 MB, (\d+)%", err)]
    assert len(shares) > 20 and shares == sorted(shares) and (shares[0], shares[-1]) == (0, 100)


def test_progress_on_a_terminal(
    run: Run, local: Callable[[str, bytes], Served], monkeypatch: pytest.MonkeyPatch
) -> None:
    local("ddpm-cifar10", BODY)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "120")
    status, out, err = run("weights", "fetch", "ddpm-cifar10")
    assert status == 0 and rows(out)["sha256"] == SHA256
    assert "cifar10_uncond_50M_500K.pt" in err and "3.0/3.0 MB" in err


def test_the_list_is_light() -> None:
    """Messages about missing files come from it, in layers that load neither torch nor an HTTP library."""
    script = (
        "import sys, raycp.published\n"
        "print([name for name in ('torch', 'requests', 'pyarrow', 'numpy') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_fetching_needs_no_torch() -> None:
    script = "import sys, raycp.published.fetch\nprint('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
