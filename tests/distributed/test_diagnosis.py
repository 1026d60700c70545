"""What `raycp doctor` makes of the reports of nodes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from raycp.distributed.diagnosis import Finding, Node, diagnose
from raycp.distributed.node_report import NodeReport, content_hash, examine

REPORT = NodeReport(
    name="host",
    python="3.11.7",
    versions={
        "raycp": "0.1.0",
        "ray": "2.60.0",
        "torch": "2.14.1",
        "numpy": "2.2",
        "diffusers": "0.38",
        "timm": "1",
        "torchvision": "0.29",
        "transformers": "5.24",
    },
    processor="a processor, AVX2",
    gpus=(),
    shared_memory=8 * 2**30,
    open_files=65536,
    clock=1000.5,
    auth_mode="token",
    storage_problem=None,
    files={},
)


def node(address: str = "10.0.0.2", counted: float = 0, received: float = 1001.0, **changes: Any) -> Node:
    return Node(address, counted, replace(REPORT, **changes), 1000.0, received)


def texts(*nodes: Node, level: str, **dashboards: bool) -> list[str]:
    found = diagnose(REPORT, nodes, dashboards)
    return [finding.text for finding in found if finding.level == level]


def test_a_cluster_that_is_well() -> None:
    found = diagnose(REPORT, [node(), node("10.0.0.3")], {"http://head:8265": False})
    assert {finding.level for finding in found} == {"ok"}
    assert Finding("ok", "clocks of 2 nodes agree with this one within 5 s") in found
    assert any("ray 2.60.0" in finding.text and "on 2 nodes" in finding.text for finding in found)


@pytest.mark.parametrize(
    ("changes", "level", "text"),
    [
        ({"versions": REPORT.versions | {"ray": "2.59.0"}}, "problem",
         "node 10.0.0.3: ray is 2.59.0, here 2.60.0; driver and nodes must agree"),
        ({"versions": REPORT.versions | {"torch": "2.13.0"}}, "warning", "torch is 2.13.0, here 2.14.1"),
        ({"versions": REPORT.versions | {"raycp": None}}, "problem", "raycp is not installed, here 0.1.0"),
        ({"gpus": ("A10",)}, "warning", "2 kinds of device: A10; a processor, AVX2"),
        ({"shared_memory": 64 * 2**20}, "warning", "/dev/shm has 64 MiB"),
        ({"open_files": 1024}, "warning", "may open 1024 files"),
        ({"storage_problem": "cannot write /runs/x: Permission denied"}, "problem",
         "node 10.0.0.3: cannot write /runs/x: Permission denied"),
        ({"clock": 1090.0}, "warning", "its clock is 89 s or more ahead of this one"),
        ({"clock": 900.0}, "warning", "its clock is 100 s or more behind this one"),
        ({"auth_mode": None}, "warning", "RAY_AUTH_MODE is not token on 10.0.0.3"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_node_is_named(changes: dict[str, Any], level: str, text: str) -> None:
    found = texts(node(), node("10.0.0.3", **changes), level=level)
    assert len(found) == 1
    assert text in found[0]
    others = {"problem": "warning", "warning": "problem"}[level]
    assert texts(node(), node("10.0.0.3", **changes), level=others) == []


def test_a_slow_answer_is_no_skew() -> None:
    assert texts(node(received=1060.0, clock=1059.0), level="warning") == []


def test_a_gpu_that_torch_does_not_see() -> None:
    assert "the cluster counts 2 GPU, but torch sees none" in texts(node(counted=2), level="problem")[0]


def test_a_node_that_does_not_answer() -> None:
    assert (
        "10.0.0.9 did not answer within 90 s"
        in texts(Node("10.0.0.9", 0, None, 10.0, 100.0), level="problem")[0]
    )


def test_an_open_dashboard() -> None:
    found = diagnose(REPORT, [node()], {"http://head:8265": True})
    assert found[0].level == "problem"
    assert "http://head:8265 answers without a token" in found[0].text


def test_the_run_directory() -> None:
    assert Finding("ok", "/runs/x can be written and read from 2 nodes") in diagnose(
        REPORT, [node(), node("10.0.0.3")], {}, "/runs/x"
    )
    found = diagnose(REPORT, [node(), node("10.0.0.3", storage_problem="no way")], {}, "/runs/x")
    assert found[0] == Finding("problem", "node 10.0.0.3: no way")
    assert not any("can be written" in finding.text for finding in found)


def test_files_of_nodes() -> None:
    def with_files(address: str, digest: str | None) -> Node:
        return node(address, files={"/data/w": digest})

    same = [with_files("a", "11111111ff"), with_files("b", "11111111ff")]
    assert "/data/w is the same on 2 nodes (11111111)" in texts(*same, level="ok")
    assert "/data/w differs between nodes (a 11111111, b 22222222)" in texts(
        same[0], with_files("b", "22222222ff"), level="problem"
    )[0]  # fmt: skip
    assert "/data/w is not on b" in texts(same[0], with_files("b", None), level="warning")[0]
    assert "/data/w is on no node" in texts(with_files("a", None), level="problem")[0]


def test_the_hash_is_over_names_and_contents(tmp_path: Path) -> None:
    for folder in ("a", "b", "c"):
        (tmp_path / folder / "sub").mkdir(parents=True)
        (tmp_path / folder / "sub" / "x").write_bytes(b"12")
        (tmp_path / folder / "y").write_bytes(b"345")
    one = content_hash(tmp_path / "a")
    assert one is not None and one == content_hash(tmp_path / "b")
    (tmp_path / "b" / "y").write_bytes(b"346")
    (tmp_path / "c" / "y").rename(tmp_path / "c" / "z")
    assert len({one, content_hash(tmp_path / "b"), content_hash(tmp_path / "c")}) == 3
    assert content_hash(tmp_path / "nothing") is None


def test_this_machine(tmp_path: Path) -> None:
    report = examine(str(tmp_path / "run"), [str(tmp_path)])
    assert report.storage_problem is None
    assert list((tmp_path / "run").iterdir()) == []
    assert report.versions["torch"] and report.open_files > 0
    (tmp_path / "file").write_text("")
    problem = examine(str(tmp_path / "file"), []).storage_problem
    assert problem is not None and "cannot write" in problem
