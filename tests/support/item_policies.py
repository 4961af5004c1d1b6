"""Random policies on items, principals and items, drawn so that about half of the decisions are allows."""

import random

from workbench.identity import Principal
from workbench.policy.engine import CedarPolicy
from workbench.policy.source import PolicySource, read_builtin
from workbench.ports.policy import PolicyRequest, Resource
from workbench.testing.memory_items import make_item

GROUPS = ("everyone", "finance", "people", "principal:ada", 'odd "name"', "back\\slash", "é\0 ")
OWNERS = ("ada", "eve", "", "ada ", "ADA", "a\0b", 'quo"te')
SOURCES, SUBJECTS = ("one", "two", "one ", "*"), ("", "cust-1", "cust-2")
KINDS = ("document", "episode", "fact")
DAYS = (None, "2125-01-01", "2125-06-15", "2126-02-28")
INSTANTS = (None, "2125-06-15T12:00:00Z", "2126-01-01T00:00:00Z", "2199-12-31T23:59:59Z")
TEXTS = {"owner": OWNERS, "source": SOURCES, "subject": SUBJECTS, "kind": KINDS}
NUMBERS = {
    "classification": (-1, 0, 1, 2, 3, 9), "trust": (0, 1, 2, 3, 5),
    "valid_from": (-5, 0, 21250101, 21250199, 21250615, 21251301),
    "valid_to": (0, 21250615, 21260228, 21260230, 99991231, 99991232),
    "expires": (0, 21250615120000, 21250615126001, 21260101000000, 21991231235959, 99991231240000),
}  # fmt: skip
#: Conditions that no store can apply.
UNTRANSLATABLE = (
    'resource.source like "o*"', "resource.acl.isEmpty()", "resource.acl.contains(resource.owner)",
    "resource.trust + 1 == 2", 'resource == Workbench::Item::"x"', "resource.acl == principal.grants",
    "principal.groups.containsAll(resource.acl)", "resource.trust < resource.classification",
)  # fmt: skip


def cedar_text(value: str) -> str:
    """A text as Cedar writes it."""
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"').replace("\0", "\\0") + '"'


def cedar_set(values) -> str:
    return f"[{', '.join(map(cedar_text, values))}]"


def condition(drawn: random.Random, depth: int = 2) -> str:
    """A condition that stores can apply."""
    if depth and drawn.random() < 0.6:
        one, other = condition(drawn, depth - 1), condition(drawn, depth - 1)
        test = condition(drawn, depth - 1)
        return drawn.choice((
            f"({one} && {other})", f"({one} || {other})", f"(!({one}))",
            f"(if {test} then {one} else {other})",
        ))  # fmt: skip
    name, values = drawn.choice(list(TEXTS.items()))
    number, numbers = drawn.choice(list(NUMBERS.items()))
    chosen = drawn.sample(GROUPS, drawn.randint(1, 3))
    some = drawn.sample(values, drawn.randint(1, 2))
    sign = drawn.choice(("<", "<=", ">", ">=", "==", "!="))
    return drawn.choice((
        "resource.acl.containsAny(principal.grants)", "resource.classification <= principal.clearance",
        f"resource.acl.containsAny({cedar_set(chosen)})", f"resource.acl.contains({cedar_text(chosen[0])})",
        f"resource.acl.containsAll({cedar_set(chosen)})", f"{cedar_set(chosen)}.containsAny(resource.acl)",
        f"{cedar_set(some)}.contains(resource.{name})", f"resource.{name} == {cedar_text(some[0])}",
        f"{cedar_text(some[0])} != resource.{name}", f"resource.{number} {sign} {drawn.choice(numbers)}",
        f"({drawn.choice(numbers)} {sign} resource.{number})", "resource.owner == principal.name",
        "resource.tenant == principal.tenant", f"resource has {name}", 'resource.memory == "m"',
        'principal in Workbench::Group::"finance"', "context.unfiltered", 'resource.memory != "m"',
        f'resource in Workbench::Memory::"{drawn.choice("mn")}"', "principal.admin",
    ))  # fmt: skip


def policy(drawn: random.Random, name: str, *, effect: str, hard: bool = False) -> str:
    """One policy on reading items; with `hard`, a part of it is for no store."""
    scope = drawn.choice((
        "resource is Workbench::Item", "resource is Workbench::Item", "resource is Workbench::Item",
        'resource is Workbench::Item in Workbench::Memory::"m"',
    ))  # fmt: skip
    action = drawn.choice(('in Workbench::Action::"read"', '== Workbench::Action::"memory.search"'))
    body = condition(drawn)
    if hard:
        body = f"{body} {drawn.choice(('&&', '||'))} {drawn.choice(UNTRANSLATABLE)}"
    if effect == "forbid":
        body = f"{body} && {condition(drawn, 0)}"
    tail = f"unless {{ {condition(drawn, 1)} }}" if drawn.random() < 0.3 else ""
    return (
        f'@id("{name}") @reason("r") {effect}(principal, action {action}, {scope}) when {{ {body} }} {tail};'
    )


def policies(seed: int, *, hard: bool = False) -> CedarPolicy:
    """A set of one to six policies; equal seeds give equal sets."""
    drawn = random.Random(seed)
    permits = [
        policy(drawn, f"p{n}", effect="permit", hard=hard and drawn.random() < 0.4)
        for n in range(drawn.randint(1, 4))
    ]
    forbids = [
        policy(drawn, f"f{n}", effect="forbid", hard=hard and drawn.random() < 0.4)
        for n in range(drawn.choice((0, 0, 1, 2)))
    ]
    return parsed("\n".join([*permits, *forbids]))


def parsed(text: str) -> CedarPolicy:
    """The set of a text, with the built-in schema."""
    return CedarPolicy(PolicySource(folder="drawn", policies={"a.cedar": text}, schema=read_builtin().schema))


def principal(drawn: random.Random) -> Principal:
    return Principal(
        name=drawn.choice(("ada", "eve", 'o"x')), groups=tuple(drawn.sample(GROUPS, drawn.randint(0, 3))),
        clearance=drawn.randint(0, 3), admin=drawn.random() < 0.3,
    )  # fmt: skip


def request(who: Principal, *, action: str = "memory.search", memory: str = "m", **context) -> PolicyRequest:
    """What the boundary asks about a memory."""
    about = Resource(type="Memory", id=memory, tenant="acme", attributes={"name": memory})
    return PolicyRequest(principal=who, tenant="acme", action=action, resource=about, context=context)


def drawn_items(drawn: random.Random, number: int):
    """Documents that differ in all that policies compare."""
    return [
        make_item(
            f"taxi {n}", source=drawn.choice(SOURCES), position=n,
            access=drawn.sample(GROUPS, drawn.randint(0, 3)),
            valid=(drawn.choice(DAYS), drawn.choice(DAYS)), classification=drawn.randint(0, 3),
            owner=drawn.choice(OWNERS), subject=drawn.choice(SUBJECTS), trust=drawn.randint(0, 3),
            expires=drawn.choice(INSTANTS),
        )
        for n in range(number)
    ]  # fmt: skip
