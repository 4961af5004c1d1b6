"""Make items of pages and of notes, with their trust, retention and access list."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import TypedDict

from workbench import arguments, files, identity
from workbench.context import instant, is_instant
from workbench.errors import ConfigError, NotFoundError, RefusedError
from workbench.ports import Requester, written_id
from workbench.ports.item_filter import by_lists
from workbench.retrieval.binding import Binding
from workbench.retrieval.chunking import chunks
from workbench.retrieval.documents import digests_now
from workbench.retrieval.port import Governed, embed
from workbench.types import KNOWLEDGE, Item, ItemKind, Page

#: The trust of an item from a declared source; other items have their principal's trust.
DECLARED = 3


class Days(TypedDict, total=False):
    """The validity of an item (ISO days) and the UTC instant at which it expires."""

    valid_from: str | None
    valid_to: str | None
    expires: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """The result of `remember`: the item's id, trust and expiry, and the ids evicted for it.

    `new` is False when the same text was written in the same second. `evicted` has the item's own id when
    the budget is full of items with more trust.
    """

    id: str
    trust: int
    expires: str | None
    new: bool
    evicted: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """The arguments of `remember`; `access` None means this principal alone."""

    text: str
    subject: str
    kind: ItemKind
    access: Sequence[str] | None
    classification: int
    parents: tuple[str, ...]
    days: Days


def visible_to(binding: Binding) -> Callable[[Item], bool]:
    """Return a test of whether the policies let the binding's principal see an item, on any day."""
    principal = binding.context.principal
    if binding.permitted is None:
        return by_lists(principal.grants, principal.clearance).admits
    payload = {"requester": Requester.of(principal, now=binding.now())}
    return binding.permitted(binding.make_call("memory", "items", binding.name, payload)).admits


def documents(binding: Binding, pages: Sequence[Page]) -> list[Item]:
    """Return the chunks of `pages` as items without vectors.

    A page that is unchanged in the memory's declared source has the trust 3, any other page the principal's
    trust. The items have no time of writing, so that the same pages give the same items.
    """
    spec = binding.spec
    declared = _declared(binding, {page.source for page in pages})
    own = binding.context.principal.trust
    return [
        Item(
            id=files.digest([page.tenant, page.source, page.digest, position, text]),
            text=text, vector=(), source=page.source, source_digest=page.digest, position=position,
            title=page.title, version=page.version, access=page.access,
            classification=page.classification, subject=page.subject, owner=page.owner,
            trust=DECLARED if declared.get(page.source) == page.digest else own,
            valid_from=page.valid_from, valid_to=page.expires, expires=_kept_until(binding, page),
            embedding=spec.embedding,
        )
        for page in pages
        for position, text in enumerate(chunks(page.text, spec.chunking))
    ]  # fmt: skip


def _declared(binding: Binding, sources: Collection[str]) -> dict[str, str]:
    """Return the digests of these pages in the memory's declared source, as far as it has them."""
    spec = binding.spec
    if not spec.source:
        return {}
    return digests_now(spec.reading(), tenant=binding.tenant, root=binding.root, sources=sources)


def _kept_until(binding: Binding, page: Page) -> str | None:
    """Return a page's expiry by the spec's retention; None for a page without `valid_from`."""
    if page.valid_from is None:
        return None
    since = dt.datetime.combine(dt.date.fromisoformat(page.valid_from), dt.time(), dt.UTC)
    return binding.spec.expires(KNOWLEDGE, page.classification, since=since)


async def write(binding: Binding, written: Written) -> Note:
    """Write one episodic item within the spec's budget.

    Raises RefusedError for a text larger than the whole budget: to write it would evict every item.
    """
    _check(binding, written)
    budget = binding.spec.budget
    size = budget.tokens_of(written.text)
    if budget.tokens is not None and size > budget.tokens:
        raise RefusedError(
            f"the text has {size:,} tokens; the whole budget of {binding.spec} is {budget.tokens:,}",
            hint="remember a summary of it, or raise `budget.tokens` in a new version of the memory's spec",
        )
    parents = await _parents(binding, written.parents)
    item = _item(binding, written, parents)
    (vector,) = await embed(binding, [item.text])
    item = dataclasses.replace(item, vector=vector)
    done = await Governed(binding=binding).remember(
        [item], budget=budget, now=binding.now(), while_there=item.parents
    )
    return Note(
        id=done.ids[0] if done.ids else item.id,
        trust=item.trust,
        expires=item.expires,
        new=bool(done.added),
        evicted=done.evicted,
    )


def _check(binding: Binding, written: Written) -> None:
    if binding.spec.kind != "episodic":
        raise ConfigError(
            f"{binding.spec} is built from sources; it takes no episodic items",
            hint="remember into a memory whose spec says kind: episodic",
        )
    if binding.pinned is not None:
        raise ConfigError(
            f"the pinned snapshot of {binding.name!r} is read-only", hint="remember outside a stage"
        )
    if written.kind == KNOWLEDGE:
        raise ConfigError("a document comes from a source", hint='kind="episode", "fact" or "summary"')
    if not arguments.text(written.text, "the text to remember").strip():
        raise ConfigError("the text to remember is empty", hint='memory.remember("what happened")')
    arguments.text(written.subject, "subject")
    arguments.whole_number(written.classification, "classification", least=0)
    access = written.access
    if access is not None and not all(map(str.strip, arguments.texts(access, "access") or [""])):
        raise ConfigError(
            f"access is {access!r}: it must be a list of one or more names",
            hint='access=["everyone"], or leave it out: the principal alone',
        )
    expires = written.days.get("expires")
    if expires is not None and not is_instant(expires):
        raise ConfigError(f"expires is {expires!r}", hint="write an instant as 2026-11-25T06:00:00Z")


async def _parents(binding: Binding, ids: Sequence[str]) -> list[Item]:
    """Return the items with these ids; NotFoundError unless the principal may see each."""
    if not ids:
        return []
    wanted = set(ids)
    found = [item for item in await Governed(binding=binding).items() if item.id in wanted]
    if len(found) < len(wanted):
        raise NotFoundError(
            f"{len(wanted) - len(found)} of {len(wanted)} parents are not in {binding.name!r}, have expired, "
            "or you may not see them",
            hint="give the ids of hits: parents=[hit.id for hit in hits]",
        )
    return found


def _item(binding: Binding, written: Written, parents: Sequence[Item]) -> Item:
    """Build the item, whose trust, classification, access and expiry are limited by its parents."""
    principal, clock = binding.context.principal, binding.context.clock
    now = clock.now()
    me = identity.personal(principal.name)
    access = tuple(sorted(set(written.access))) if written.access is not None else (me,)
    level = max([written.classification, *(parent.classification for parent in parents)])
    wider = [name for name in access if name != me and not all(name in parent.access for parent in parents)]
    if wider:
        raise RefusedError(
            f"{len(wider)} of {len(access)} entries of the access list may not see all parents",
            hint="omit access (the principal alone), or name groups that may see all parents",
        )
    days = written.days
    ends = [days.get("expires"), binding.spec.expires(written.kind, level, since=now)]
    ends += [parent.expires for parent in parents]
    item = Item(
        id="", text=written.text, vector=(), source=binding.context.use_case,
        source_digest=files.digest(written.text.encode()), kind=written.kind, access=access,
        classification=level, owner=principal.name, subject=written.subject,
        parents=tuple(sorted(set(written.parents))),
        trust=min([principal.trust, *(parent.trust for parent in parents)]), created=instant(now),
        valid_from=days.get("valid_from"), valid_to=days.get("valid_to"),
        expires=min(filter(None, ends), default=None), embedding=binding.spec.embedding,
    )  # fmt: skip
    return dataclasses.replace(item, id=written_id(binding.tenant, item))
