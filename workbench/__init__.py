"""Take generative-AI work from a notebook to a governed, reproducible, scheduled job.

`import workbench as wb` loads no vendor: a name is imported when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from workbench.errors import WorkbenchError as WorkbenchError
    from workbench.experiments.compare import compare as compare
    from workbench.experiments.dataset import Case as Case
    from workbench.experiments.dataset import Dataset as Dataset
    from workbench.experiments.dataset import Question as Question
    from workbench.experiments.scorers import Outcome as Outcome
    from workbench.experiments.scorers import contains as contains
    from workbench.experiments.scorers import cross_tenant_hits as cross_tenant_hits
    from workbench.experiments.scorers import exact as exact
    from workbench.experiments.scorers import grounded as grounded
    from workbench.experiments.scorers import ndcg_at as ndcg_at
    from workbench.experiments.scorers import recall_at as recall_at
    from workbench.experiments.scorers import scorer as scorer
    from workbench.experiments.task import Answer as Answer
    from workbench.experiments.task import task as task
    from workbench.identity import Principal as Principal
    from workbench.prompts.window import Window as Window
    from workbench.retrieval.citations import citation_precision as citation_precision
    from workbench.retrieval.documents import load as load
    from workbench.types import Hit as Hit
    from workbench.types import Message as Message
    from workbench.types import Page as Page
    from workbench.types import Reply as Reply
    from workbench.workspace.connection import connect as connect
    from workbench.workspace.feedback import feedback as feedback
    from workbench.workspace.workspace import Workspace as Workspace

_HOMES = {
    "Answer": "experiments.task",
    "Case": "experiments.dataset",
    "Dataset": "experiments.dataset",
    "Hit": "types",
    "Message": "types",
    "Outcome": "experiments.scorers",
    "Page": "types",
    "Principal": "identity",
    "Question": "experiments.dataset",
    "Reply": "types",
    "WorkbenchError": "errors",
    "Workspace": "workspace.workspace",
    "Window": "prompts.window",
    "citation_precision": "retrieval.citations",
    "compare": "experiments.compare",
    "connect": "workspace.connection",
    "contains": "experiments.scorers",
    "cross_tenant_hits": "experiments.scorers",
    "exact": "experiments.scorers",
    "feedback": "workspace.feedback",
    "grounded": "experiments.scorers",
    "load": "retrieval.documents",
    "ndcg_at": "experiments.scorers",
    "recall_at": "experiments.scorers",
    "scorer": "experiments.scorers",
    "task": "experiments.task",
}
__all__ = sorted(_HOMES)  # noqa: PLE0605  names and their homes are said once


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
