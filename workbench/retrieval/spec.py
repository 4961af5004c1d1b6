"""A memory's spec: what it is made of and how. A version never changes; a change is the next version."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from workbench import assets, files
from workbench.errors import ConfigError
from workbench.retrieval.chunking import Chunking


@dataclass(frozen=True, slots=True, kw_only=True)
class _File:
    """`pipelines/memories/<name>/<version>.yaml`, read strictly."""

    __pydantic_config__: ClassVar[dict[str, Any]] = files.STRICT
    description: str
    source: str
    chunking: Chunking
    embedding: str
    candidates: int
    questions: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MemorySpec:
    """One version of a memory's spec.

    `source` is what `load` takes, `embedding` a model card's name, `candidates` how deep each of
    the two rankings goes before they are fused, `questions` a dataset about it, `digest` SHA-256
    of the spec's file.
    """

    name: str
    version: int
    digest: str
    description: str
    source: str
    chunking: Chunking
    embedding: str
    candidates: int
    questions: str | None = None

    def __str__(self) -> str:
        return f"{self.name}@{self.version}"


def load_spec(root: Path, reference: str) -> MemorySpec:
    """The spec that `name`, `name@2` or `name@label` means; a bare name is the newest version."""
    return read_spec(assets.resolve(root, "memory", reference))


def read_spec(found: assets.Version) -> MemorySpec:
    """The spec in a version's file."""
    raw = files.parse(_File, files.read_yaml(found.path), where=str(found.path))
    raw.chunking.check(str(found.path))
    if raw.candidates < 1:
        raise ConfigError(f"{found.path}: candidates must be 1 or more, found {raw.candidates}")
    return MemorySpec(
        name=found.name,
        version=found.number,
        digest=found.digest,
        description=raw.description,
        source=raw.source,
        chunking=raw.chunking,
        embedding=raw.embedding,
        candidates=raw.candidates,
        questions=raw.questions,
    )
