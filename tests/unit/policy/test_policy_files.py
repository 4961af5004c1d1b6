"""The files of a set: its tests, what `workbench check` finds in them, and the set of this repository."""

import dataclasses
from pathlib import Path

import pytest

from workbench.errors import ConfigError, NotFoundError
from workbench.identity import Principal
from workbench.policy.engine import CedarPolicy
from workbench.policy.expected import read_tests
from workbench.policy.source import FOLDER, read_builtin, read_folder, read_source
from workbench.policy.validation import validate
from workbench.ports.policy import PolicyRequest, Resource

ROOT = Path(__file__).parents[3]
GOOD = '@id("more") @reason("Why.") '


def source(more="", **parts):
    builtin = read_builtin()
    policies = {**builtin.policies, **({"more.cedar": more} if more else {})}
    return dataclasses.replace(builtin, folder=FOLDER, policies=policies, builtin=False, **parts)


def found(more="", *, groups=("everyone",), **parts):
    return [(item.where, item.what, item.warning) for item in validate(source(more, **parts), groups=groups)]


def test_the_built_in_set_has_no_finding():
    assert found() == []


def test_the_repositorys_set_is_the_built_in_one():
    mine, builtin = read_source(ROOT), read_builtin()
    assert not mine.builtin and mine.digest == builtin.digest and mine.tests == builtin.tests


def test_every_policy_has_a_test_that_it_permits_and_one_that_it_leaves_denied():
    rows = read_tests(read_builtin())
    for name in ("ask", "memory", "item", "forgets", "promotes", "publishes", "content"):
        assert any(name in row.name for row in rows), name
    assert {row.expect for row in rows} == {"allow", "deny"}


@pytest.mark.parametrize(
    ("more", "place", "words", "warning"),
    [
        (GOOD + 'permit (principal, action == Workbench::Action::"memory.serch", resource);',
         "more.cedar: more", ["memory.serch", "nearest: 'memory.search'"], False),
        (GOOD + "forbid (principal, action, resource) when { principal.clearence > 1 };",
         "more.cedar: more", ["clearence"], False),
        (GOOD + 'forbid (principal, action, resource) when { principal.clearance == "high" } ;',
         "more.cedar: more", ["Long and String"], False),
        (GOOD + "permit (principal is Workbench::Robot, action, resource);",
         "more.cedar: more", ["Robot"], False),
        ('@reason("Why.") permit (principal, action, resource) when { false };',
         "more.cedar: pipelines/policies/more.cedar#1", ["@id"], False),
        (GOOD + "permit (principal, action, resource);\n\n// a note; of two\npermit (principal action);",
         "/more.cedar", ["line 4", "unexpected token"], False),
        (GOOD + "permit (principal, action, resource);" + GOOD + "permit (principal, action, resource);",
         FOLDER, ["'more'", "in more.cedar"], False),
        (GOOD + "permit (principal, action, resource) when { false };",
         "more.cedar: more", ["unused"], True),
        (GOOD + 'permit (principal, action == Workbench::Action::"model.chat", resource) '
         "when { resource.tenant == principal.tenant };",
         "more.cedar: more", ["shadowed"], True),
        (GOOD + 'forbid (principal in Workbench::Group::"contractor", action, resource);',
         "more.cedar: more", ["'contractor'", "nearest"], True),
        ('@id("more") forbid (principal, action, resource) when { false };',
         "more.cedar: more", ["@reason"], True),
    ],
)  # fmt: skip
def test_a_problem_of_a_policy_is_named_with_its_file_and_id(more, place, words, warning):
    findings = found(more, groups=("everyone", "contractors"))
    fits = [w for p, what, w in findings if p.endswith(place) and all(word in what for word in words)]
    assert fits == [warning], findings


@pytest.mark.parametrize(
    ("tests", "word"),
    [
        ("tests: [{name: a, action: model.chat, resource: {type: Model}, expect: deny}]", "expected deny"),
        ("tests: [{name: a, action: model.chat, resource: {type: Model, tenant: b}, expect: allow}]",
         "expected allow"),
        ("tests: [{name: a, action: model.chat, resource: {type: Model}, expect: allow, by: [read-items]}]",
         "it is by ask-models"),
        ("tests: [{name: a, action: model.chatt, resource: {type: Model}, expect: deny}]", "model.chat'"),
        ("tests: [{name: a, action: model.chat, resource: {type: Memory}, expect: deny}]", "never asked"),
        ("tests: [{name: a, action: model.chat, resource: {type: Model}, expects: deny}]", "expects"),
        ("tests: [{name: a, action: model.chat, resource: {type: Model}, expect: maybe}]", "expect"),
        ("tests: [{name: a, action: x, resource: {type: Model}, expect: deny, principal: {clearence: 1}}]",
         "clearence"),
        ("tests: [", "tests.yaml"),
        ("- a", "mapping"),
    ],
)  # fmt: skip
def test_a_test_that_is_decided_otherwise_or_is_wrong_is_named(tests, word):
    findings = [(where, what) for where, what, warning in found(tests=tests) if not warning]
    assert len(findings) == 1 and FOLDER + "/tests.yaml" in findings[0][0], findings
    assert word in " ".join(findings[0])


@pytest.mark.parametrize(
    ("resource", "context", "said"),
    [
        ("{type: Modell}", "{}", "nearest: 'Model'"),
        ("{type: Model, attributes: {externl: true}}", "{}", "nearest: 'external'"),
        ("{type: Model, attributes: {external: 'yes'}}", "{}", "must be true or false, found 'yes'"),
        ("{type: Item, attributes: {acl: staff}}", "{}", "must be a list of texts, found 'staff'"),
        ("{type: Item, attributes: {trust: true}}", "{}", "must be a whole number, found True"),
        ("{type: Model}", "{data_clas: personal}", "nearest: 'data_class'"),
        ("{type: Model}", "{external: 1}", "must be true or false, found 1"),
    ],
)
def test_a_test_of_what_no_request_has_names_it_and_what_there_is(resource, context, said):
    row = f"{{name: a, action: model.chat, resource: {resource}, context: {context}, expect: deny}}"
    (finding,) = [item for item in validate(source(tests=f"tests: [{row}]")) if not item.warning]
    assert finding.where == f"{FOLDER}/tests.yaml: a" and said in finding.what
    assert "correct the test" in finding.fix


def test_a_draft_that_is_missing_says_how_to_begin_one(tmp_path):
    with pytest.raises(NotFoundError, match="draft") as caught:
        read_folder(tmp_path / "draft")
    assert caught.value.hint.startswith("cp -r pipelines/policies ")


def test_two_tests_of_one_name_are_an_error():
    row = "{name: a, action: model.chat, resource: {type: Model}, expect: allow}"
    with pytest.raises(ConfigError, match="'a'"):
        read_tests(source(tests=f"tests: [{row}, {row}]"))


def test_without_any_policy_of_the_set_some_test_fails():
    """The tests of the built-in set are worth their lines: no policy can be dropped unnoticed."""
    builtin = read_builtin()
    names = [item.what for item in validate(builtin)]
    assert not any("shadowed" in what or "unused" in what for what in names)
    none = dataclasses.replace(builtin, tests="")
    assert sum("unused" in item.what for item in validate(none)) == len(names) + 12


def test_a_set_of_before_approvals_is_asked_without_them():
    builtin = read_builtin()
    added = ("    label: String", "approvals:", "independent:")
    lines = [line for line in builtin.schema.splitlines() if not any(part in line for part in added)]
    before, _, rest = builtin.policies["workbench.cedar"].partition('@id("approve-production")')
    former = before + '@id("publish-outputs")' + rest.partition('@id("publish-outputs")')[2]
    stated = dataclasses.replace(
        builtin, policies={"workbench.cedar": former}, schema="\n".join(lines), tests="", builtin=False
    )
    assert [item.what for item in validate(stated) if not item.warning] == []
    asked = PolicyRequest(
        principal=Principal(name="job:answers", kind="job"), tenant="acme", action="publish",
        resource=Resource(type="Output", id="answers", tenant="acme"),
        context={"phase": "mlvp", "label": "production", "approvals": 0, "independent": 0},
    )  # fmt: skip
    former_decision, today = (CedarPolicy(item).decide(asked) for item in (stated, builtin))
    assert former_decision.allowed and former_decision.policies == ("publish-outputs",)
    assert not today.allowed and today.policies == ("publish-approved",)


def test_a_schema_that_lacks_what_the_workbench_asks_is_named():
    schema = read_builtin().schema.replace('"model.chat", ', "")
    findings = found(schema=schema)
    assert any("model.chat" in what and "schema" in where for where, what, _ in findings), findings


def test_a_schema_whose_attributes_differ_names_them():
    schema = read_builtin().schema.replace("data_class: String, principal", "data_klass: String, principal")
    (what,) = (what for _, what, _ in found(schema=schema) if "open_content" in what)
    assert "lacks `data_class: String`" in what and "has `data_klass: String`" in what
    assert "ValueError" not in what


def test_groups_in_groups_reach_policies():
    entities = (
        '[{"uid": {"type": "Workbench::Group", "id": "everyone"}, "attrs": {}, '
        '"parents": [{"type": "Workbench::Group", "id": "staff"}]}]'
    )
    more = (
        GOOD
        + 'forbid (principal in Workbench::Group::"staff", action == Workbench::Action::"approve", resource);'
    )
    row = '{name: a, tenant: "", action: approve, resource: {type: Asset}, expect: deny, by: [more]}'
    tests = read_builtin().tests + f"  - {row}\n"
    assert found(more, entities=entities, tests=tests) == []
    assert found(more, tests=tests)
