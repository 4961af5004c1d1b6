"""The condition of a search permits exactly the items that the exact decision permits."""

import random

import pytest
from item_policies import drawn_items, parsed, policies, principal, request
from sizes import SOAK

from workbench.errors import PolicyError
from workbench.identity import Principal
from workbench.policy.engine import CedarPolicy
from workbench.policy.memory_law import MemoryLaw, untranslatable_policies
from workbench.policy.validation import validate
from workbench.ports.item_filter import all_of, any_of, by_lists
from workbench.ports.policy import ItemPolicy, about_item
from workbench.testing.memory_items import make_item

SETS, ITEMS = 2_000 if SOAK else 60, 40
READ = 'permit(principal, action in Workbench::Action::"read", resource is Workbench::Item)'
ADA = Principal(name="ada", groups=("everyone",), clearance=2)


def law_of(policy) -> MemoryLaw:
    return MemoryLaw(lambda: policy)


def compared(seed, *, hard):
    """For one set: what the condition permits, what direct decisions permit, and the untranslatable ids."""
    drawn = random.Random(seed)
    policy, who, items = policies(seed, hard=hard), principal(drawn), drawn_items(drawn, ITEMS)
    law, asked = law_of(policy), request(who, action=drawn.choice(("memory.search", "memory.items")))
    where = law.permitted(asked)
    direct = [decision.allowed for decision in policy.decide_all([about_item(asked, i) for i in items])]
    exact = [decision.allowed for decision in law.decide_items(asked, items)]
    assert exact == direct, f"set {seed}"
    return [where.admits(item) for item in items], direct, law.untranslatable(asked)


def test_the_condition_equals_the_exact_decision_on_every_item():
    allowed = total = 0
    for seed in range(SETS):
        condition, direct, dropped = compared(seed, hard=False)
        assert not dropped and condition == direct, f"set {seed}"
        allowed, total = allowed + sum(direct), total + len(direct)
    assert 0.1 < allowed / total < 0.9


def test_what_no_store_can_apply_permits_nothing_and_forbids_all():
    dropped_sets = 0
    for seed in range(SETS):
        condition, direct, dropped = compared(seed, hard=True)
        assert all(exact for permitted, exact in zip(condition, direct, strict=True) if permitted)
        assert dropped or condition == direct
        dropped_sets += bool(dropped)
    assert dropped_sets > SETS / 5
    law = law_of(parsed(f'@id("a") {READ}; @id("b") forbid(principal, action, resource is Workbench::Item) '
                        'when { resource.source like "hr/*" };'))  # fmt: skip
    assert law.permitted(request(ADA)) == any_of([]) and law.untranslatable(request(ADA)) == ("b",)


@pytest.mark.parametrize(
    ("condition", "permitted"),
    [
        ('[resource.tenant, "b"] == ["b", resource.tenant]', None),
        ("[resource.tenant, resource.tenant] == [resource.tenant]", None),
        ('["acme", "beta"].contains(resource.tenant)', True),
        ('["beta"].contains(resource.tenant)', False),
        ("[1, true].contains(resource.tenant)", False),
        ('["beta", resource.tenant].contains(resource.tenant)', True),
    ],
)  # fmt: skip
def test_what_all_items_have_in_common_is_compared_as_the_engine_does(condition, permitted):
    """None: no store can tell, so that a permit permits nothing and a forbid forbids all."""
    items = drawn_items(random.Random(1), 5)
    for forbid in (False, True):
        tail = f"; @id('b') forbid(principal, action, resource is Workbench::Item) when {{ {condition} }};"
        text = f'@id("a") {READ}' + (tail.replace("'b'", '"b"') if forbid else f" when {{ {condition} }};")
        law, asked = law_of(parsed(text)), request(ADA)
        exact = [decision.allowed for decision in law.decide_items(asked, items)]
        where = [law.permitted(asked).admits(item) for item in items]
        assert where == [False] * 5 if permitted is None else where == exact == [permitted != forbid] * 5


def test_the_built_in_set_is_the_form_that_stores_apply_fastest():
    law = MemoryLaw.builtin()
    assert isinstance(law, ItemPolicy)
    groups = ("everyone", "principal:ada")
    for action in ("memory.search", "memory.items", "memory.count"):
        assert law.permitted(request(ADA, action=action)) == by_lists(groups, 2)
        assert law.permitted(request(ADA, action=action)).lists == (groups, 2)
    keeper = Principal(name="ann", admin=True)
    assert law.permitted(request(keeper, unfiltered=True)) == all_of([])
    assert law.permitted(request(ADA, unfiltered=True)) != all_of([])


def test_another_tenants_items_are_never_permitted():
    about = request(ADA)
    elsewhere = type(about)(
        principal=ADA, tenant="globex", action=about.action, resource=about.resource, context={}
    )
    assert MemoryLaw.builtin().permitted(elsewhere).lists == ((), 0)


class Failing:
    """A set whose engine fails, or reports an error."""

    digest = "d"
    policies: dict = {}

    def __init__(self, answer):
        self.answer = answer

    def residual(self, *_, **__):
        if isinstance(self.answer, BaseException):
            raise self.answer
        return self.answer


class Panic(BaseException):
    """What a panic of the engine is to Python."""


@pytest.mark.parametrize(
    "answer",
    [ValueError("x"), Panic("x"), {}, {"diagnostics": {"errors": ["policy0: x"]}, "residuals": {}},
     {"diagnostics": {"errors": []}, "residuals": {"a": {"effect": "permit"}}}],
)  # fmt: skip
def test_nothing_is_permitted_while_the_engine_fails(answer):
    with pytest.raises(PolicyError, match="could not be evaluated"):
        law_of(Failing(answer)).permitted(request(ADA))


def test_conditions_and_decisions_are_those_of_the_active_set():
    sets = [parsed(f'@id("a") {READ};'), parsed(f'@id("a") {READ} when {{ resource.trust > 1 }};')]
    law, item = MemoryLaw(lambda: sets[0]), make_item("taxi")
    assert law.permitted(request(ADA)) == all_of([])
    assert [decision.allowed for decision in law.decide_items(request(ADA), [item])] == [True]
    sets.pop(0)
    assert not law.permitted(request(ADA)).admits(item)
    assert [decision.allowed for decision in law.decide_items(request(ADA), [item])] == [False]


class Everything(str):
    """A text that says that it is any other."""

    __slots__ = ()
    __hash__ = str.__hash__

    def __eq__(self, other):
        return True


def test_a_group_whose_class_equals_all_others_gets_no_other_condition():
    law = MemoryLaw.builtin()
    board = Principal(name="ada", groups=("board",))
    assert law.permitted(request(board)).admits(make_item("taxi", access=("board",)))
    forged = Principal(name="ada", groups=(Everything("x"),))
    assert not law.permitted(request(forged)).admits(make_item("taxi", access=("board",)))


def test_items_that_differ_in_nothing_compared_share_a_decision():
    other = '@id("b") forbid(principal, action, resource == Workbench::Memory::"other");'
    policy = parsed(f'@id("a") {READ} when {{ resource.kind == "document" }}; {other}')
    asked, found = [], policy.decide_all
    policy.decide_all = lambda requests: asked.append(len(requests)) or found(requests)
    law = law_of(policy)
    items = [make_item(f"taxi {n}", source=f"s{n}") for n in range(20)]
    assert all(decision.policies == ("a",) for decision in law.decide_items(request(ADA), items))
    law.decide_items(request(ADA), [make_item("rope", source="more"), make_item("rope", kind="fact")])
    assert asked == [1, 1]


@pytest.mark.parametrize("scope", ['== Workbench::Item::"x"', 'in Workbench::Item::"x"'])
def test_a_policy_on_one_item_is_decided_item_by_item(scope):
    law = law_of(parsed(f'@id("a") permit(principal, action, resource {scope});'))
    items = [make_item("taxi", id="x"), make_item("taxi", id="y"), make_item("taxi", id="x2")]
    assert [decision.allowed for decision in law.decide_items(request(ADA), items)] == [True, False, False]
    assert law.permitted(request(ADA)) == any_of([])


@pytest.mark.parametrize("effect", ["permit", "forbid"])
def test_a_policy_on_another_type_of_resource_says_nothing_of_items(effect):
    other = f'@id("b") @reason("r") {effect}(principal, action, resource is Workbench::Memory)'
    law = law_of(parsed(f'@id("a") @reason("r") {READ}; {other} when {{ resource.name like "hr*" }};'))
    assert law.permitted(request(ADA)) == all_of([]) and not law.untranslatable(request(ADA))


def test_a_check_names_the_policies_that_no_memory_can_search_by():
    source = parsed(
        f'@id("odd") @reason("r") {READ} when {{ resource.source like "hr/*" }};'
        f'@id("fine") @reason("r") {READ} when {{ resource.owner == principal.name }};'
    ).source
    found = [finding for finding in validate(source) if "search by" in finding.what]
    assert [(finding.where.rpartition(": ")[2], finding.warning) for finding in found] == [("odd", False)]
    assert "permits no item" in found[0].what and "containsAny" in found[0].fix
    assert not untranslatable_policies(CedarPolicy.builtin())


def test_a_condition_is_made_once_for_the_same_rights_and_action():
    policy = parsed(f'@id("a") @reason("r") {READ} when {{ resource.owner == principal.name }};')
    asked, found = [], policy.residual
    policy.residual = lambda *a, **k: asked.append(a) or found(*a, **k)
    law = law_of(policy)
    for _ in range(3):
        assert law.permitted(request(Principal(name="ada"))) == law.permitted(request(Principal(name="ada")))
    assert len(asked) == 1
    others = (request(ADA), request(Principal(name="ada"), action="memory.items"), request(ADA, purpose="x"))
    for other in others:
        law.permitted(other)
    assert len(asked) == 4
