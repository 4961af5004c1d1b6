"""A job's version: an immutable folder, whose `job.yaml` lists every file in it.

pipelines/jobs/<name>/<n>/
    job.yaml          the frozen parts, their code, and the gate and run of the judgement
    task.ipynb        the notebook without its `explore` cells
    sample.*          the input that the version's stage reproduces
    tape.jsonl        the model's answers to it
    prompts/ models/ memories/    copies of the pinned specs
    evidence/         the verdict, the judged run, and the clean run's counts
"""

from __future__ import annotations

import dataclasses
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

from workbench import files, registry
from workbench.config import Limits, Timing
from workbench.errors import ConfigError, CorruptError, NotFoundError
from workbench.repository.git import Repository

FORMAT: Literal[1] = 1
PAGE = "job.yaml"
TASK = "task.ipynb"
TAPE = "tape.jsonl"
JUDGED = "evidence/run"
_COMMIT = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")
_PLAIN = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]*|")


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """A parameter's declared type and frozen value."""

    __pydantic_config__: ClassVar[dict[str, Any]] = files.STRICT
    type: str
    value: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class JobSpec:
    """`job.yaml`, read strictly.

    `commit` is the commit of the code, and `code` the git object id of each path that a run reads:
    after a rebase, the same objects in another commit are the same code. `pins` are the resolved
    references; `digests` the SHA-256 of prompt, memory snapshot, model, lock and sample; `arm` the judged
    arm's own settings. `sample_outputs` has the SHA-256 of each output of the sample; `files` that
    of every other file.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = files.STRICT
    format: int
    job: str
    version: int
    use_case: str
    phase: str
    notebook: str
    commit: str
    code: dict[str, str]
    task_digest: str
    gate_digest: str
    dataset_digest: str
    run: str
    pins: dict[str, str]
    digests: dict[str, str]
    parameters: dict[str, Parameter]
    sample: str
    sample_outputs: dict[str, str]
    limits: Limits
    files: dict[str, str]
    arm: dict[str, Any] = field(default_factory=dict)
    schedule: Timing | None = None
    input: str | None = None

    @property
    def reference(self) -> str:
        """The version as a reference, such as `answers@1`."""
        return f"{self.job}@{self.version}"

    def values(self) -> dict[str, Any]:
        """Return the value of each parameter by name."""
        return {name: parameter.value for name, parameter in self.parameters.items()}

    def content(self) -> str:
        """Return the digest that identifies the content, without version, commit, run, tape and evidence."""
        plain = dataclasses.asdict(self)
        named = {"version", "commit", "run"}
        plain["files"] = {n: d for n, d in self.files.items() if n != TAPE and not n.startswith("evidence/")}
        plain["digests"] = {n: d for n, d in self.digests.items() if n != "tape"}
        return files.digest({key: value for key, value in plain.items() if key not in named})

    def text(self) -> bytes:
        """Return the page as YAML bytes."""
        plain = {key: value for key, value in dataclasses.asdict(self).items() if value is not None}
        return files.yaml_text(plain).encode()


def load(root: Path, name: str, number: int) -> tuple[JobSpec, Path]:
    """Return a version's page and folder, after checking every byte; CorruptError names a changed file."""
    version = registry.resolve(root, "job", f"{name}@{number}")
    spec = read(version.path)
    if (spec.job, spec.version) != (name, number):
        raise CorruptError(
            f"{version.path} names {spec.reference} as its version", hint=f"git checkout -- {version.path}"
        )
    check_files(version.path.parent, spec.files)
    return spec, version.path.parent


def code_of(root: Path, spec: JobSpec) -> str:
    """Return the commit of a version's code: its own, or a commit in this history with the same bytes.

    NotFoundError when the history has no such commit.
    """
    repository = Repository(root=root)
    commit = spec.commit if repository.is_ancestor(spec.commit) else repository.commit_holding(spec.code)
    if commit is None:
        raise NotFoundError(
            f"{spec.reference} runs the code of commit {spec.commit[:12]}, which is not in this history",
            hint="git fetch --unshallow, or merge the branch it was promoted on; or promote again",
        )
    return commit


def read(path: Path) -> JobSpec:
    """Read a `job.yaml`; ConfigError for another format or a path outside the version's folder."""
    raw = files.read_yaml(path)
    if raw.get("format") != FORMAT:
        raise ConfigError(
            f"{path} has format {raw.get('format')!r}, this workbench reads {FORMAT}",
            hint="run it with the workbench that promoted it, or promote again",
        )
    spec = files.parse(JobSpec, raw, where=str(path))
    _check_names(path, spec)
    return spec


def _check_names(path: Path, spec: JobSpec) -> None:
    """Raise ConfigError for a commit that is no id, and for a name that leads out of the page's folder."""
    if not _COMMIT.fullmatch(spec.commit):
        raise ConfigError(
            f"{path}: commit {files.shortened(spec.commit)!r} is not the id of a commit",
            hint=f"git checkout -- {shlex.quote(str(path))}: a promoted version never changes",
        )
    plain = {"job": spec.job, "use_case": spec.use_case, "sample": spec.sample}
    plain |= {f"digests.{kind}": text for kind, text in spec.digests.items()}
    wrong = [key for key, text in plain.items() if not _PLAIN.fullmatch(text)]
    paths = {"notebook": spec.notebook, **{f"files.{name}": name for name in spec.files}}
    wrong += [key for key, text in paths.items() if Path(text).is_absolute() or ".." in Path(text).parts]
    if wrong:
        raise ConfigError(
            f"{path}: {wrong[0]} leads out of its folder",
            hint=f"git checkout -- {shlex.quote(str(path))}: a promoted version never changes",
        )


def check_files(folder: Path, known: Mapping[str, str]) -> None:
    """Raise CorruptError for the first missing, changed or additional file of a version's folder."""
    found = digests(folder)
    for name in sorted(found.keys() | known.keys()):
        if found.get(name) == known.get(name):
            continue
        what = (
            "is missing" if name not in found else "was changed" if name in known else "does not belong to it"
        )
        path = shlex.quote(str(folder / name))
        fix = f"git checkout -- {path}" if name in known else f"rm {path}"
        raise CorruptError(f"{folder / name} {what}: a promoted version never changes", hint=fix)


def digests(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of every file below a version's folder except its page, by relative path."""
    found = sorted(path for path in folder.rglob("*") if not path.is_dir() or path.is_symlink())
    return {
        path.relative_to(folder).as_posix(): _digest(path)
        for path in found
        if path.relative_to(folder).as_posix() != PAGE
    }


def _digest(path: Path) -> str:
    if path.is_symlink():
        return "a link"
    try:
        return files.digest(files.read_bytes(path))
    except OSError as error:
        raise CorruptError(f"cannot read {path}: {error.strerror}", hint=f"git checkout -- {path}") from None
