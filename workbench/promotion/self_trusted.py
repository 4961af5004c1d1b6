"""Say which approvals of a version count by keys that an author of the version trusted."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from pathlib import Path

from workbench.attestations.trust import KEYS, person
from workbench.models.approval import same_person
from workbench.promotion.job_approvals import ApprovalRules, approvals_of
from workbench.repository.git import Repository


def notes_on_keys(root: Path, job: str, version: int, label: str, *, now: dt.datetime) -> tuple[str, ...]:
    """Return a note for each key that counts for an approval and that an author of the version committed.

    It is no reason to refuse: where one person administers a repository, that person adds the keys.
    """
    counted = approvals_of(root, job, version, label, now=now).counted
    if not counted:
        return ()
    rules = ApprovalRules.load(root, job, version, label, now=now)
    principals = {approval.principal for approval in counted}
    return tuple(note for name in sorted(principals) for note in _notes(root, rules, name))


def _notes(root: Path, rules: ApprovalRules, principal: str) -> Iterator[str]:
    for key in rules.trust.keys.values():
        if key.principal != principal or "approver" not in key.roles:
            continue
        added = Repository(root=root).authors(str(KEYS), holding=key.id)
        by = next((name for name in added if any(same_person(name, author) for author in rules.authors)), "")
        if by:
            yield (
                f"the key {key.id[:16]} of {person(principal)}, who approved, was added by {person(by)}, an"
                f" author of the version (git log -S{key.id[:16]} -- {KEYS})"
            )
