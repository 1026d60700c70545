"""Train, certify without and with purifier, and report, one after the other; run again, each step resumes.

The entry point of jobs/pipeline.yaml, for the digits. Each step is one command of raycp in the cluster of the job.
"""

from __future__ import annotations

import argparse
import shlex
import subprocess
import sys


def main() -> None:
    """Run the steps; end with the exit status of the first that fails."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--out", required=True, metavar="DIR", help="Folder on a shared disk for all that is made."
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="Override a value of both certifications.",
    )
    parser.add_argument(
        "--train-set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="Override a value of the training.",
    )
    options = parser.parse_args()
    out = options.out
    classifier = f"classifier.path={out}/train/models/classifier"
    purifier = f"purifier.model.path={out}/train/models/finetune"
    raycp("train", "configs/digits/train.yaml", f"{out}/train", options.train_set)
    raycp("certify", "configs/digits/none.yaml", f"{out}/none", [classifier, *options.set])
    raycp(
        "certify", "configs/digits/finetuned.yaml", f"{out}/finetuned", [classifier, purifier, *options.set]
    )
    step("raycp", "report", f"{out}/none", f"{out}/finetuned", "--out", f"{out}/report")


def raycp(command: str, config: str, out: str, overrides: list[str]) -> None:
    """One step that makes or resumes a run directory."""
    set_ = [word for override in overrides for word in ("--set", override)]
    step("raycp", command, config, "--out", out, "--address", "auto", *set_)


def step(*words: str) -> None:
    """One step, announced."""
    print(f"+ {shlex.join(words)}", flush=True)
    status = subprocess.run(words, check=False).returncode
    if status:
        sys.exit(status)


if __name__ == "__main__":
    main()
