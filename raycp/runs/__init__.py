"""Run directories: resolved config, ledger of counts, certificates, fingerprints; local, s3 and gs."""

from raycp.runs.manifest import make_manifest
from raycp.runs.run_directory import (
    RunDirectory,
    RunResults,
    open_run,
    read_run,
    recorded_manifest,
    refuse_imported,
)

__all__ = [
    "RunDirectory",
    "RunResults",
    "make_manifest",
    "open_run",
    "read_run",
    "recorded_manifest",
    "refuse_imported",
]
