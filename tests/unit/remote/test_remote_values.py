"""Every verb of a memory crosses the wire and back as it was."""

from __future__ import annotations

import dataclasses
import inspect
import typing
from collections.abc import Iterable, Mapping, Sequence

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench.errors import ConfigError, UnavailableError
from workbench.ports import ItemFilter, Memory, Query, Requester
from workbench.remote import values
from workbench.types import Hit, Item

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
PLAIN = {
    str: TEXTS,
    int: st.integers(-(2**63), 2**64 - 1),
    float: st.floats(allow_nan=False, allow_infinity=False),
    bool: st.booleans(),
    type(None): st.none(),
    ItemFilter: st.builds(
        ItemFilter, op=st.just("in"), attribute=st.just("acl"), values=st.just(("a", 1)), parts=st.just(())
    ),
}


def of(kind) -> st.SearchStrategy:
    """Values of a type of the port."""
    origin, inside = typing.get_origin(kind), typing.get_args(kind)
    if kind in PLAIN:
        return PLAIN[kind]
    if dataclasses.is_dataclass(kind):
        hints = typing.get_type_hints(kind)
        return st.builds(kind, **{field.name: of(hints[field.name]) for field in dataclasses.fields(kind)})
    if origin is typing.Literal:
        return st.sampled_from(inside)
    if origin is Mapping:
        return st.dictionaries(TEXTS, PLAIN[int] | TEXTS | st.none(), max_size=3)
    if origin not in {tuple, list, Iterable, Sequence}:
        return st.one_of(*map(of, inside))  # a union
    several = st.lists(of(inside[0]), max_size=3)
    return several.map(tuple) if origin is tuple or inside[0] is float else several


def arguments_of(verb: str) -> st.SearchStrategy:
    hints = typing.get_type_hints(getattr(Memory, verb))
    names = list(inspect.signature(getattr(Memory, verb)).parameters)[1:]
    more = {"restored": of(list[Item])} if verb in {"stage", "remember"} else {}
    return st.fixed_dictionaries({name: of(hints[name]) for name in names}, optional=more)


def typed(value):
    """A value with the types of its parts, so that 1 is not 1.0 and a list is no tuple."""
    if dataclasses.is_dataclass(value):
        fields = [typed(getattr(value, field.name)) for field in dataclasses.fields(value)]
        return type(value).__name__, fields
    if isinstance(value, list | tuple):
        return type(value).__name__, [typed(item) for item in value]
    if isinstance(value, dict):
        return {name: typed(item) for name, item in value.items()}
    return type(value).__name__, repr(value)


@pytest.mark.parametrize("verb", values.VERBS)
@settings(max_examples=50)
@given(data=st.data())
def test_the_arguments_of_every_verb_come_back_as_they_were(verb, data):
    given_ = data.draw(arguments_of(verb))
    read = values.read_arguments(verb, orjson.loads(values.written(given_, what="x")))
    assert typed(read) == typed(given_)


@pytest.mark.parametrize("verb", values.VERBS)
@settings(max_examples=50)
@given(data=st.data())
def test_the_result_of_every_verb_comes_back_as_it_was(verb, data):
    result = data.draw(of(typing.get_type_hints(getattr(Memory, verb))["return"]))
    assert typed(values.read_result(verb, values.written(result, what="x"))) == typed(result)


def test_the_verbs_are_those_of_the_port():
    port = {name for name, made in vars(Memory).items() if inspect.iscoroutinefunction(made)}
    assert set(values.VERBS) == port and len(port) == 14


@pytest.mark.parametrize(
    ("verb", "stated", "named"),
    [
        ("search", {"query": {"text": "a"}}, "query.vector"),
        ("search", {"query": {}, "limit": 3}, "'limit'"),
        ("count", {"ids": ["a", 3]}, "ids"),
        ("count", {"requester": {"groups": [], "now": "", "clearance": True}}, "clearance"),
        ("purge", {"now": "x", "keep_versions": "3"}, "keep_versions"),
        ("forget", {"what": {"subject": "a", "everything": True}}, "everything"),
        ("drop", {}, "'drop'"),
        ("hold", [], "list"),
    ],
)
def test_odd_arguments_are_refused_by_name(verb, stated, named):
    with pytest.raises(ConfigError, match=named):
        values.read_arguments(verb, stated)


def test_a_number_that_is_not_finite_is_refused_before_it_becomes_nothing():
    query = Query(text="a", vector=(1.0, float("nan")), k=1, groups=(), as_of="2025-01-01")
    with pytest.raises(ConfigError, match="nan"):
        values.written({"query": query}, what="memory.search")
    with pytest.raises(ConfigError, match=r"memory\.search"):
        values.written({"query": {1, 2}}, what="memory.search")


@pytest.mark.parametrize("answer", [b"{}", b'[{"id":1}]', b'[{"id":"a","more":1}]', b"null", b"[[]]", b"no"])
def test_a_result_of_another_type_is_an_error_of_the_gateway(answer):
    with pytest.raises(UnavailableError, match=r"memory\.search"):
        values.read_result("search", answer)


def test_a_hit_as_a_whole_is_read_strictly():
    with pytest.raises(ConfigError, match="passages"):
        values.hit_of({"id": "a"})
    hit = Hit(
        id="a", text="t", source="s", title="", version=1, score=0.5, tenant="acme", as_of="2025-01-01",
        stale=True, digest="d", memory="m", data_class="health",
    )  # fmt: skip
    assert typed(values.hit_of(orjson.loads(orjson.dumps(values.plain(hit))))) == typed(hit)
    assert (
        Requester(groups=(), now="")
        == values.read_arguments("count", {"requester": {"groups": [], "now": ""}})["requester"]
    )
