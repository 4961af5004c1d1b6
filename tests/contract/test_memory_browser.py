"""The browser of a memory on each store: whatever a page sends, it tells what a search could find."""

from __future__ import annotations

import dataclasses
import json
import random

import pytest
from secret_house import ALL, House

from workbench import identity
from workbench.config import MemoryServer
from workbench.errors import RefusedError
from workbench.identity import Principal
from workbench.retrieval.browser import MemoryBrowser
from workbench.testing.memory_isolation import CANARY, OUTSIDERS, VICTIM
from workbench.testing.memory_items import HOSTILE, HOSTILE_NAMES

#: What a page may send, whether or not the panel drew a button for it.
FORGED = (
    None, 0, 1, -1, 2, 10**9, True, 1.5, "", "0", "1", "9", "staff", "board", "principal:anna", VICTIM,
    *OUTSIDERS, "secret-0", "2000-01-01", "2125-06-15", "document", "episode", "x' OR '1'='1", [],
    {}, {"tenant": VICTIM}, *HOSTILE[:8], *HOSTILE_NAMES[:4],
)  # fmt: skip
ACTIONS = (
    "question", "k", "as_of", "version", "sources", "kind", "search", "list", "open", "versions", "before",
    "after", "compare", "source", "changes", "group", "clearance", "tenant", "act_as", "forget", "_own",
)  # fmt: skip


def handle_of(house, tenant, principal):
    """A handle as a workspace gives it, which narrows its principal and never widens it."""

    def narrowed(wanted):
        if raised := identity.beyond(wanted, principal):
            raise RefusedError("; ".join(raised))
        return handle_of(house, tenant, wanted)

    return dataclasses.replace(house.handle(tenant, principal), narrowed=narrowed)


def told(panel):
    """All that a panel gives to a page, a terminal and an executed copy."""
    return json.dumps(panel.to_json(), ensure_ascii=False) + str(panel) + panel.card_html()


def outsiders():
    """Who may see none of the secrets: few groups and a low clearance, or another tenant."""
    for groups in (("everyone",), ("staf", "everyone"), (), ("everyone", "Staff")):
        yield VICTIM, Principal(name="eve", groups=groups, clearance=1)
    yield OUTSIDERS[0], Principal(name="anna", groups=ALL, clearance=9, admin=True, assurance="authenticated")
    yield "globex", Principal(name="keeper", groups=ALL, clearance=9, admin=True)


def tell_nothing(house, *, rounds):
    drawn, seen = random.Random(3), ""
    for tenant, principal in outsiders():
        panel = handle_of(house, tenant, principal).browse()
        panel.act("question", "taxi")
        for _ in range(rounds):
            panel.receive({"action": drawn.choice(ACTIONS), "value": drawn.choice(FORGED)})
            if drawn.random() < 0.3:  # a form that can be read, which forged values seldom make
                for name in ("version", "sources", "kind"):
                    panel.act(name, "")
                panel.act("k", "100")
                panel.act("as_of", drawn.choice(("", "2125-06-15", "2000-01-01")))
                panel.act("question", drawn.choice(("taxi for everyone", "taxi", *HOSTILE[:8])))
                panel.act(drawn.choice(("search", "list")), drawn.choice((None, 0, 20)))
                panel.act("open", drawn.choice((1, 2, 5)))
            shown = told(panel)
            assert CANARY not in shown, (principal, shown[:400])
            assert not identity.beyond(panel.principal, principal)
            seen += shown if tenant == VICTIM else ""
        for action, value in (("before", "1"), ("after", "1"), ("compare", None), ("source", "secret-0")):
            panel.act(action, value)
        assert CANARY not in told(panel) and (tenant != VICTIM or "no version 1" in panel.notice), (
            panel.notice
        )
    assert "taxi for everyone" in seen, "what everybody may see is shown"


def show_what_is_permitted(house):
    """The keeper finds the secrets, and with fewer rights no longer does; nothing counts them."""
    keeper = Principal(name="keeper", groups=ALL, clearance=9, admin=True)
    panel = handle_of(house, VICTIM, keeper).browse()
    assert CANARY in {word for hit in panel.search("taxi", k=50) for word in hit.text.split()}
    (hit, *_) = panel.hits
    assert hit.words_rank and hit.vector_rank and hit.score > 0
    panel.open(1)
    assert hit.id in told(panel) and f"{hit.score:.4f}, from rank {hit.words_rank} by words" in str(panel)
    everything = panel.list_page().total
    assert panel.compare_source("secret-0", 1, 1).texts == ()
    assert panel.list_versions()
    panel.act("group", "everyone")
    panel.act("clearance", "0")
    assert not panel.hits and CANARY not in told(panel), "what was found with other rights is gone"
    public = panel.list_page()
    assert 0 < public.total < everything
    assert f"of {everything}" not in told(panel) and "hidden" not in told(panel)
    assert {item.text for item in public.rows} == {hit.text for hit in panel.search("taxi", k=100)}


@pytest.fixture
def house(tmp_path):
    made = House(tmp_path)
    made.fill()
    yield made
    made.close()


def test_no_page_makes_the_browser_tell_what_a_search_could_not_find(house):
    tell_nothing(house, rounds=60)


def test_the_browser_shows_what_a_principal_may_see_and_no_more_with_fewer_rights(house):
    show_what_is_permitted(house)


@pytest.mark.slow
def test_the_browser_of_a_weaviate_memory_shows_the_same_and_tells_no_more(tmp_path, weaviate):
    server = MemoryServer(url=weaviate.address.url, grpc=f"127.0.0.1:{weaviate.address.grpc_port}")
    made = House(tmp_path, server=server)
    made.fill()
    show_what_is_permitted(made)
    tell_nothing(made, rounds=12)
    made.close()


def test_a_hole_in_the_listing_is_detected(house, monkeypatch):
    """The listing asks unfiltered, as an admin would: these tests must fail then."""
    from workbench.retrieval import listing

    plain = listing.Governed
    monkeypatch.setattr(listing, "Governed", lambda *, binding: plain(binding=house.admin(), unfiltered=True))
    with pytest.raises(AssertionError):
        tell_nothing(house, rounds=60)


def test_a_browser_is_made_anew_for_each_cell(house):
    handle = handle_of(house, VICTIM, Principal(name="eve"))
    assert isinstance(handle.browse(), MemoryBrowser)
    shown = handle._repr_mimebundle_()
    assert set(shown) == {"text/plain", "text/html"} and "memory secret@1" in shown["text/html"]
