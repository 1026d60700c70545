"""The configuration of `raycp submit`: one Ray Job, what it runs and what travels with it to the cluster."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from raycp.config.base import Float, Frozen

WRITERS = ("certify", "predict", "evaluate", "compare", "train")
"""Commands that make a run directory, or several, on the cluster, and resume them."""
READERS = ("report", "verify")
"""Commands that look at one."""
OWN_METADATA = ("raycp", "kind", "run", "config", "resume", "git_commit")
"""What `raycp submit` itself records with every job."""

_RAYS_METADATA = ("job_submission_id", "job_name")
_LONGEST_NAME = 40
_FLAGS = ("--dry-run", "--redraw", "--no-redraw")  # options that take no value
_SECRET_NAME = re.compile(
    "TOKEN(?!IZ)|PASSWORD|SECRET|ACCESS_KEY", re.IGNORECASE
)  # not TOKENIZERS_PARALLELISM
_SECRET_IN_URI = re.compile(r"://[^/@\s]*:[^/@\s]*@")
_VISIBLE = (
    "what describes a job is kept by the cluster and shown to everybody who may look at its jobs. Give the nodes "
    "themselves the right to read and write (an instance role, a mounted file, the environment that Ray is started in)."
)


def _text_from_number(value: object) -> object:
    """Read `--replicas, 8`, a number in YAML, as the word it is on a command line."""
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


def _fit_for_an_id(name: str) -> str:
    """Ray names actors and log files after the submission id."""
    if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name) or len(name) > _LONGEST_NAME:
        raise ValueError(
            f"must be lower-case letters and digits, with single dashes between them, {_LONGEST_NAME} characters at "
            f"most, got {name!r}."
        )
    return name


Word = Annotated[str, BeforeValidator(_text_from_number), Field(min_length=1)]


class JobConfig(Frozen):
    """A Ray Job: a command of raycp, or a script that calls several of them.

    Give it again, and it resumes the same run directory as a new job.
    """

    name: Annotated[str, AfterValidator(_fit_for_an_id)]
    """Lower-case letters, digits and dashes; the job is called raycp-NAME-1, the next one raycp-NAME-2."""
    command: tuple[Word, ...] | None = Field(None, min_length=1)
    """Words of a raycp command: [certify, CONFIG, --out, RUN, ...]. RUN outlives the job: absolute, s3:// or gs://."""
    entrypoint: tuple[Word, ...] | None = Field(None, min_length=1)
    """Instead of command, a Python script in working_dir and its words: [jobs/pipeline.py, --out, DIR]."""
    working_dir: Annotated[str, Field(min_length=1)] | None = "."
    """Folder that travels to the cluster and is the job's current one, relative to where the command is given, or an
    archive that is there already (s3://...zip); null: nothing. What .gitignore and .rayignore name stays behind."""
    excludes: tuple[Word, ...] = ()
    """Patterns, as in .gitignore, of further files that stay behind."""
    env_vars: dict[str, Word] = {}
    """Environment variables of the job and its workers; no secrets."""
    metadata: dict[str, Word] = {}
    """Shown with the job on the dashboard, beside what raycp records."""
    cpus: Annotated[Float, Field(ge=0)] = 0.0
    """CPUs reserved for the command itself, not for its replicas or workers; 0 runs it on the head node."""
    gpus: Annotated[Float, Field(ge=0)] = 0.0
    """GPUs reserved for the command itself."""
    stop_seconds: int = Field(60, ge=1)
    """Seconds that a stopped job has to write down what it holds."""

    @model_validator(mode="after")
    def _complete(self) -> JobConfig:
        if (self.command is None) == (self.entrypoint is None):
            raise ValueError("command or entrypoint must be given, and not both.")
        if self.command is not None and self.command[0] not in (*WRITERS, *READERS):
            raise ValueError(
                f"command must begin with one of {', '.join((*WRITERS, *READERS))}, got {self.command[0]!r}. `raycp` "
                "itself is left out; anything else is a script, by entrypoint."
            )
        if self.entrypoint is not None and not re.fullmatch(r"[^/].*\.py", self.entrypoint[0]):
            raise ValueError(
                "entrypoint must begin with a Python script in working_dir, for example jobs/pipeline.py, got "
                f"{self.entrypoint[0]!r}."
            )
        _outlives_the_job(self)
        return self

    @model_validator(mode="after")
    def _no_secrets(self) -> JobConfig:
        for key, names in (("env_vars", self.env_vars), ("metadata", self.metadata)):
            for name in names:
                if _SECRET_NAME.search(name):
                    raise ValueError(f"{key}.{name} must not be in a job file: {_VISIBLE}")
        for word in (*self.words, self.working_dir or "", *self.env_vars.values(), *self.metadata.values()):
            if found := _SECRET_IN_URI.search(word):
                raise ValueError(
                    f"{word[: found.start()]}://...@ must not hold a password in a job file: {_VISIBLE}"
                )
        taken = [name for name in self.metadata if name in (*OWN_METADATA, *_RAYS_METADATA)]
        if taken:
            raise ValueError(
                f"metadata.{taken[0]} must have another name: raycp or Ray records one of its own."
            )
        return self

    @property
    def words(self) -> tuple[str, ...]:
        """What is run, less `raycp` or `python`."""
        words = self.command or self.entrypoint
        assert words is not None
        return words

    @property
    def kind(self) -> str:
        """The command's name, or the script's."""
        return self.words[0]

    @property
    def config(self) -> str | None:
        """The configuration that the command reads; None if it reads none, or is a script."""
        positional, _ = parsed(self.words[1:])
        return positional[0] if self.kind in WRITERS and positional else None

    @property
    def run(self) -> str | None:
        """The run directory that the job makes, or looks at; None if a script does not say, by --out."""
        positional, options = parsed(self.words[1:])
        place = next(iter(positional), "") if self.kind in READERS else options.get("--out", "")
        return place.rstrip("/") or None


def parsed(words: Iterable[str]) -> tuple[list[str], dict[str, str]]:
    """The positional words of a command, and the last value of each of its options."""
    positional: list[str] = []
    options: dict[str, str] = {}
    remaining = iter(words)
    for word in remaining:
        name, equals, value = word.partition("=")
        if not word.startswith("-"):
            positional.append(word)
        elif word not in _FLAGS:
            options["--out" if name == "-o" else name] = value if equals else next(remaining, "")
    return positional, options


def _outlives_the_job(job: JobConfig) -> None:
    """Refuse places inside the folder that is unpacked for the job: it is deleted some time after the job."""
    positional, options = parsed(job.words[1:])
    places = _named_places(job.kind, positional, options)
    if job.kind in WRITERS and "--out" not in places:
        raise ValueError(f"command must name a run directory: add --out, RUN to {job.kind}.")
    for what, place in places.items():
        if "://" not in place and not place.startswith("/"):
            raise ValueError(
                f"{job.kind}: {what} must be outside the job's working directory, which is unpacked on the cluster and "
                f"deleted later, got {place!r}. Take a path on a disk that all nodes share (/shared/{_tail(place)}), "
                "s3:// or gs://."
            )
    if job.kind == "report" and "://" in places.get("--out", positional[0] if positional else ""):
        raise ValueError(
            "report: --out must be a folder on a disk, where it writes; add --out, /shared/report."
        )


def _named_places(kind: str, positional: list[str], options: Mapping[str, str]) -> dict[str, str]:
    places = {"--out": options["--out"]} if "--out" in options else {}
    if kind in READERS:
        places |= {f"run {number}": run for number, run in enumerate(positional, 1)}
    return places


def _tail(place: str) -> str:
    return place.removeprefix("~").lstrip("./") or "runs"
