"""Run directories: resolved config, ledger of counts, certificates, fingerprints; local, s3 and gs."""

from raycp.runs.manifest import make_manifest
from raycp.runs.run_directory import RunDirectory, RunResults, open_run, read_run, recorded_manifest
from raycp.runs.storage import Storage

__all__ = [
    "RunDirectory",
    "RunResults",
    "Storage",
    "make_manifest",
    "open_run",
    "read_run",
    "recorded_manifest",
]
