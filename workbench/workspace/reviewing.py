"""Review held answers: to read one and to decide on it are authorised and audited acts."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from workbench.audit import Act, audited
from workbench.config import load_params
from workbench.content import ContentKeys
from workbench.identities.providers import identity_of_process
from workbench.layout import CONTENT_KEYS, HELD
from workbench.moderation.held import HeldAnswer, HeldAnswers, HeldTexts
from workbench.policy.authorise import authorise, system_context
from workbench.ports.policy import Resource


def held_answers(home: Path) -> HeldAnswers:
    """Return the held answers of a folder of state, under the keys of its sealed content."""
    return HeldAnswers(folder=home / HELD, keys=ContentKeys(home / CONTENT_KEYS))


def read_held(root: Path, held: str) -> tuple[HeldAnswer, HeldTexts]:
    """Return a held answer and its texts for a reviewer; PolicyError unless the policies permit it."""
    answers = held_answers(root)
    found = answers.get(held)
    with _act(root, found, "open_content", reason=""):
        return found, answers.texts(found)


def decide_held(root: Path, held: str, state: Literal["released", "rejected"], *, reason: str) -> HeldAnswer:
    """Release or reject a held answer; PolicyError unless the policies permit the user to open it."""
    answers = held_answers(root)
    found = answers.get(held)
    now = dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
    with _act(root, found, "release_held" if state == "released" else "reject_held", reason=reason) as by:
        return answers.decide(held, state, by=by, reason=reason, at=now)


@contextmanager
def _act(root: Path, held: HeldAnswer, activity: str, *, reason: str) -> Iterator[str]:
    """Log an act on a held answer, inside of which the policies decide; yield the reviewer's name."""
    found = identity_of_process(load_params(root).identity, root)
    context = dataclasses.replace(
        system_context(root, held.use_case, purpose="review", found=found),
        tenant=found.tenant or held.tenant,
        use_case=held.use_case,
    )
    act = Act(
        activity=activity, principal=context.principal, type="Content", name=f"held {held.id}",
        tenant=held.tenant, use_case=held.use_case, reason=reason,
    )  # fmt: skip
    attributes = {"use_case": held.use_case, "data_class": "", "principal": held.principal}
    resource = Resource(type="Content", id=f"held {held.id}", tenant=held.tenant, attributes=attributes)
    with audited(root, act) as facts:
        decision = authorise(root, context, "open_content", resource)
        facts["decision"] = decision.to_json()
        yield context.principal.name
