"""Checks of a use case's documents, questions and tenants."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from workbench import config, registry, retrieval
from workbench.config import UseCase
from workbench.errors import ConfigError, NotFoundError, RefusedError, nearest
from workbench.experiments.dataset import Case, Dataset
from workbench.experiments.matching import mentions
from workbench.experiments.scorers import accepted_texts
from workbench.retrieval.reading import Pages
from workbench.types import Page


def check_data(root: Path, name: str, case: UseCase) -> tuple[Dataset, list[Page]]:
    """Return the cases and pages; raise ConfigError if a case's page is missing or has no answer.

    Cases are compared with the pages by what they expect: a stated `page` exists, and contains one of the
    stated `answers`. Without a memory there are no pages and nothing is compared.
    """
    from workbench.workspace import quality  # it needs numpy, which no command needs to start

    path = stated_dataset(root, case)
    if case.memory:
        spec = retrieval.load_spec(root, str(case.memory))
        for read in filter(None, (spec.source, spec.access)):
            _check_tracked(name, case, read, f"the memory {spec}")
    _check_tracked(name, case, path, f"the dataset of {name}")
    pages = pages_of(root, name, case)
    cases = quality.dataset(root, name, case, path)
    for tenant in cases.tenants:
        check_tenant(name, case, tenant)
    by_name = {(page.tenant, page.source): page for page in pages}
    for question in cases:
        if case.memory and question.expected.get("page") not in (None, []):
            _check_question(question, by_name, path)
    return cases, pages


def stated_dataset(root: Path, case: UseCase) -> str:
    """Return the path of the cases that the gate judges; `case.columns` names their columns.

    Without a dataset in params.yaml they are the questions of the memory's spec. Raise ConfigError when
    neither names a file, or when the use case has no memory either.
    """
    stated = case.dataset
    if isinstance(stated, config.DatasetFile):
        return stated.file
    if stated is not None:
        return stated
    spec = retrieval.load_spec(root, str(case.memory)) if case.memory else None
    if spec is None or spec.questions is None:
        source = "there is no memory" if spec is None else f"the memory {spec} names no questions"
        raise ConfigError(
            f"{case.title!r}: params.yaml states no dataset, and {source}",
            hint="add dataset: FILE to the use case in params.yaml",
        )
    return spec.questions


def _check_tracked(name: str, case: UseCase, what: str, reads: str) -> None:
    """Raise ConfigError unless the path is in `data`, the folder that the pipeline tracks."""
    if not Path(os.path.normpath(what)).is_relative_to(os.path.normpath(case.data)):
        raise ConfigError(
            f"{reads} reads {what}, which is outside of use_cases.{name}.data, {case.data}: "
            "the pipeline would not notice its changes",
            hint=f"write data: {what if Path(what).suffix == '' else Path(what).parent} into params.yaml",
        )


def _check_question(question: Case, pages: Mapping[tuple[str, str], Page], where: str) -> None:
    texts, names = [], accepted_texts(question, "page")
    for name in names:
        page = pages.get((question.tenant, name))
        if page is None:
            own = [source for owner, source in pages if owner == question.tenant]
            raise ConfigError(
                f"{where}: question {question.id!r}: {question.tenant!r} has no page {name!r} "
                f"({nearest(name, own)})",
                hint="correct expected.page of the question, or add the page",
            )
        texts.append(page.text)
    stated = question.expected.get("answers") is not None
    answers = accepted_texts(question, "answers") if stated else ()
    if answers and not any(mentions(text, answer) for text in texts for answer in answers):
        raise ConfigError(
            f"{where}: question {question.id!r}: page {', '.join(map(repr, names))} contains none of its "
            "accepted answers",
            hint="correct expected.answers of the question, or its expected.page",
        )
    if not isinstance(question.inputs.get("question", ""), str):
        found = type(question.inputs["question"]).__name__
        raise ConfigError(
            f"{where}: question {question.id!r}: 'question' must be a text, found {found}",
            hint='write "question": "…" into the row',
        )


def pages_of(root: Path, name: str, case: UseCase) -> Pages:
    """Return the use case's documents, none without a memory.

    Raise NotFoundError if a document's tenant is not served.
    """
    if case.memory is None:
        return Pages()
    spec = retrieval.load_spec(root, str(case.memory))
    pages = retrieval.load(spec.reading(), root=root)
    for tenant in sorted({page.tenant for page in pages}):
        check_tenant(name, case, tenant)
    return pages


def check_tenant(name: str, case: config.UseCase, tenant: str, *, only: str | None = None) -> None:
    """Raise NotFoundError unless the use case serves this tenant, and RefusedError for another than `only`.

    `only` is the tenant of a run that was started for one.
    """
    if tenant not in case.tenants:
        raise NotFoundError(
            f"use case {name!r} has no tenant {tenant!r} ({nearest(tenant, case.tenants)})",
            hint=f"add it to use_cases.{name}.tenants in params.yaml",
        )
    if only is not None and tenant != only:
        raise RefusedError(
            f"the run is for tenant {only!r} alone, and its notebook asks for tenant {tenant!r}",
            hint="leave the tenant out in the notebook, or run the job without --tenant",
        )


def unstated(name: str, kind: Literal["memory", "prompt"]) -> ConfigError:
    """Return the error for the bare name of an asset that the use case does not state."""
    folder = registry.FOLDERS[kind]
    return ConfigError(
        f"the use case {name!r} states no {kind}, so ws.{kind}() has nothing to return",
        hint=f"write {kind}: {{name: NAME, version: 1}} into use_cases.{name} of params.yaml, or "
        f'name one of pipelines/{folder}: ws.{kind}("NAME")',
    )
