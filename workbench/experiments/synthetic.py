"""Synthetic cases: how many of a run's cases a generator or an author made up, and which one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from workbench import files
from workbench.experiments.dataset import Dataset

if TYPE_CHECKING:
    import polars as pl

#: The generators that a sentence names.
_NAMED = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Generator:
    """What made a synthetic case: the name of its generator or author, its version and its seed."""

    name: str
    version: Any = None
    seed: Any = None

    @property
    def text(self) -> str:
        """The generator in one phrase, such as `tickets, version 1, seed 7`."""
        parts = [" ".join(self.name.split())]
        parts += [f"version {self.version}"] if self.version is not None else []
        parts += [f"seed {self.seed}"] if self.seed is not None else []
        return ", ".join(parts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Synthetic:
    """The `n` synthetic cases among the `n_cases` cases of a run, and their generators by text."""

    n: int
    n_cases: int
    generators: tuple[Generator, ...]

    @classmethod
    def of(cls, cases: Dataset, case_ids: pl.Series) -> Synthetic | None:
        """Return what is synthetic among the cases with these ids; None when nothing is."""
        known = set(case_ids)
        made = [c.provenance for c in cases if c.id in known and c.provenance.get("synthetic")]
        if not made:
            return None
        found = {
            generator.text: generator
            for generator in (
                Generator(
                    name=str(row.get("generator") or row.get("author") or "unknown"),
                    version=row.get("generator_version"),
                    seed=row.get("seed"),
                )
                for row in made
            )
        }
        ordered = tuple(found[text] for text in sorted(found))
        return cls(n=len(made), n_cases=len(case_ids), generators=ordered)

    @property
    def text(self) -> str:
        """The sentence for cards and pages."""
        named = "; ".join(files.shortened(generator.text) for generator in self.generators[:_NAMED])
        rest = len(self.generators) - _NAMED
        more = f"; {rest} more" if rest > 0 else ""
        return f"{self.n} of {self.n_cases} cases are synthetic ({named}{more})"

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form: number, share and generators."""
        generators = [{"name": g.name, "version": g.version, "seed": g.seed} for g in self.generators]
        share = round(self.n / self.n_cases, 6)
        return {"n": self.n, "share": share, "generators": generators}
