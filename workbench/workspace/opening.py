"""Open sealed content as an authorised and audited act, and erase it with its subject."""

from __future__ import annotations

import dataclasses
import datetime as dt
import functools
from pathlib import Path
from typing import Any, Final

from workbench import arguments
from workbench.audit import Act, audited
from workbench.content import ContentEntry, ContentKeys, ContentStore, OpenedContent, Opening, unknown_content
from workbench.context import Context
from workbench.errors import ConfigError, NotFoundError, PolicyError
from workbench.identity import Principal
from workbench.layout import CONTENT, CONTENT_KEYS
from workbench.policy.authorise import authorise, system_context
from workbench.ports import Call, Forgotten, Selector
from workbench.ports.identity import Identity
from workbench.ports.policy import Decision, Resource

#: Most characters of a reason.
_MOST_REASON: Final = 1_000


@functools.lru_cache(maxsize=64)
def content_at(home: Path) -> ContentStore:
    """Return the store of sealed content below a folder of state."""
    return ContentStore(home / CONTENT, ContentKeys(home / CONTENT_KEYS))


def open_content(root: Path, home: Path, context: Context, content: str, *, reason: str) -> OpenedContent:
    """Return opened content; the policies of `root` decide, and the audit log below `home` has the act.

    The reason is kept with the content, sealed, and its digest is in the log. Raise PolicyError for a denial,
    NotFoundError for content that is unknown, erased or another tenant's, and ConfigError without a reason.
    """
    if not arguments.text(reason, "reason").strip() or len(reason) > _MOST_REASON:
        raise ConfigError(
            f"content is opened for a reason of 1 to {_MOST_REASON} characters",
            hint='workbench content open ID --reason "complaint 4711"',
        )
    entry = content_at(home).entry(content)
    try:
        return _opened(root, home, context, entry, reason=reason)
    except (NotFoundError, PolicyError):
        if entry.tenant == context.tenant:
            raise
        raise unknown_content(content) from None  # as for an id without content


def _opened(root: Path, home: Path, context: Context, entry: ContentEntry, *, reason: str) -> OpenedContent:
    """Return the content of an entry, opened, unless it expired, was erased or may not be opened."""
    store, content = content_at(home), entry.id
    now = context.clock.now().astimezone(dt.UTC)
    if entry.expires < now.date().isoformat():
        raise NotFoundError(
            f"the content {content} expired on {entry.expires}", hint="workbench content purge removes it"
        )
    act = Act(
        activity="open_content", principal=context.principal, type="Content", name=content,
        tenant=entry.tenant, use_case=entry.use_case, reason=reason,
    )  # fmt: skip
    with audited(home, act) as facts:
        sealed = store.open(content)
        decision = authorise(root, context, "open_content", _resource(sealed), home=home)
        facts["decision"] = decision.to_json()
        at = now.isoformat(timespec="microseconds")
        store.note_opening(entry, Opening(at=at, principal=context.principal.name, reason=reason))
    return sealed


def erase_subject(root: Path, tenant: str, subject: str, *, found: Identity) -> bool:
    """Destroy the key of what is kept about a tenant's subject in all use cases, as `erase_content` does.

    `found` is the identity of the process. Raise PolicyError unless the policies permit it to open content of
    every use case, because one key seals what all of them keep.
    """
    _authorise_all(root, "subject", tenant, purpose="erase", found=found)
    return erase_content(root, tenant, subject, by=found.principal)


def purge_content(root: Path, *, found: Identity) -> int:
    """Remove what has expired in all use cases, and return the number of entries; the audit log has the act.

    `found` is the identity of the process. Raise PolicyError as `erase_subject` does.
    """
    act = Act(activity="purge_content", principal=found.principal, type="Content", name="expired")
    with audited(root, act) as facts:
        decision = _authorise_all(root, "expired", "", purpose="purge", found=found)
        facts["decision"] = decision.to_json()
        facts["entries"] = removed = content_at(root).purge(dt.datetime.now(dt.UTC).date())
    return removed


def _authorise_all(root: Path, name: str, tenant: str, *, purpose: str, found: Identity) -> Decision:
    """Return the decision that permits an identity to open a tenant's content of every use case."""
    base = system_context(root, purpose=purpose, found=found)
    about = {"use_case": "", "data_class": "", "principal": ""}
    resource = Resource(type="Content", id=name, tenant=tenant, attributes=about)
    return authorise(root, dataclasses.replace(base, tenant=tenant), "open_content", resource)


def erase_content(home: Path, tenant: str, subject: str, *, by: Principal) -> bool:
    """Destroy the key of what is kept about a tenant's subject; return whether there was one.

    The audit log has the act, with the subject's pseudonym.
    """
    act = Act(activity="erase", principal=by, type="Content", name="subject", tenant=tenant, subject=subject)
    with audited(home, act) as facts:
        facts["keys"] = done = content_at(home).erase(tenant, subject)
    return done


def erase_forgotten(home: Path, store: ContentStore, call: Call, forgotten: Any) -> None:
    """Erase what is kept about the subject that a memory forgot, unless a legal hold keeps items of it."""
    what = call.payload.get("what")
    subject = what.subject if isinstance(what, Selector) else None
    held = isinstance(forgotten, Forgotten) and forgotten.held
    if subject and not held and not call.payload.get("dry_run") and store.folder.is_dir():
        erase_content(home, call.context.tenant, subject, by=call.context.principal)


def _resource(sealed: OpenedContent) -> Resource:
    entry = sealed.entry
    attributes = {
        "use_case": entry.use_case, "data_class": entry.data_class, "principal": sealed.principal,
    }  # fmt: skip
    return Resource(type="Content", id=entry.id, tenant=entry.tenant, attributes=attributes)
