"""`raycp.verify` shares no code with what it checks."""

from __future__ import annotations

import ast
from pathlib import Path

import raycp.verify

FORBIDDEN = (
    "raycp.certify", "raycp.runs.ledger", "raycp.runs.run_directory", "raycp.runs.tables", "raycp.runs.boundaries",
    "raycp.report", "raycp.simulate", "raycp.distributed.job", "raycp.distributed.session",
)  # fmt: skip


def test_nothing_of_the_reduction_is_imported() -> None:
    files = sorted(Path(raycp.verify.__file__).parent.glob("*.py"))
    assert len(files) > 8
    imported = set()
    for path in files:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom):
                assert node.level == 0
                imported |= {f"{node.module}.{alias.name}" for alias in node.names}
            elif isinstance(node, ast.Import):
                imported |= {alias.name for alias in node.names}
    assert not [name for name in imported if name.startswith(FORBIDDEN)]
    assert {name for name in imported if name.startswith(("raycp.runs", "raycp.storage"))} == {
        "raycp.storage.Storage", "raycp.runs.manifest.FORMAT", "raycp.runs.manifest.make_manifest",
    }  # fmt: skip
