"""Suggest cases from a memory: the pages of its active documents, as far as the principal may see them."""

from __future__ import annotations

from collections.abc import Iterable

from workbench import arguments
from workbench.errors import NotFoundError
from workbench.experiments.suggested import SuggestedCases, suggest
from workbench.retrieval.binding import Binding
from workbench.retrieval.port import Governed
from workbench.types import KNOWLEDGE, Item, Page


async def drafts(bindings: Iterable[Binding], *, n: int, seed: int) -> SuggestedCases:
    """Return drafted cases from the documents of these bindings of one memory, one for each tenant.

    Raises NotFoundError when no document is active for the principal on the day.
    """
    n = arguments.whole_number(n, "n", least=1)
    bound = list(bindings)
    pages = [page for binding in bound for page in await pages_of(binding)]
    first = bound[0]
    if not pages:
        tenants, name = ", ".join(binding.tenant for binding in bound), first.context.principal.name
        raise NotFoundError(
            f"the memory {first.spec} has no document of {tenants} that {name} may see today",
            hint=first.command("ingest"),
        )
    docs = first.spec.source if first.spec.source and (first.root / first.spec.source).is_dir() else ""
    return suggest(pages, n=n, seed=seed, author=first.context.principal.name, docs=docs)


async def pages_of(binding: Binding) -> list[Page]:
    """Return the pages of the active version that the principal may see and that are valid on the day.

    The text of a page is that of its chunks in their order.
    """
    day = binding.as_of or binding.context.clock.now().date().isoformat()
    found: dict[str, list[Item]] = {}
    for item in await Governed(binding=binding).items(binding.version):
        if item.kind == KNOWLEDGE and _is_valid(item, day):
            found.setdefault(item.source, []).append(item)
    return [_page(binding.tenant, found[source]) for source in sorted(found)]


def _is_valid(item: Item, day: str) -> bool:
    return (item.valid_from or day) <= day and (item.valid_to is None or day < item.valid_to)


def _page(tenant: str, items: list[Item]) -> Page:
    items.sort(key=lambda item: item.position)
    first, text = items[0], "\n\n".join(item.text for item in items)
    return Page(source=first.source, title=first.title, text=text, tenant=tenant, digest=first.source_digest)
