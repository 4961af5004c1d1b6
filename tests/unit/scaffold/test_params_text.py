"""params.yaml is edited as text: what a person wrote stays, and what was inserted can be taken out again."""

from __future__ import annotations

import pytest

from workbench import files
from workbench.errors import ConfigError
from workbench.scaffold import params_text
from workbench.scaffold.params_text import Block

USE_CASE = Block(
    section="use_cases", name="claims", text="  claims:\n    title: Claims   # why\n    list: [a]\n"
)
JOB = Block(section="jobs", name="claims", text="  claims:\n    use_case: claims\n")
BLOCKS = [USE_CASE, JOB]
FORMS = {
    "as it ships": "# All\nuse_cases:\n  a:\n    title: A  # a\n    # last\n\n# Jobs\njobs:\n  a: {b: a}\n",
    "no end of line": "use_cases:\n  a:\n    title: A\njobs:\n  a: {use_case: a}",
    "no jobs": "use_cases:\n  a: {title: A}\n",
    "nothing yet": "# Nothing\nuse_cases:\njobs:\n",
    "empty mappings": "use_cases: {}  # none\njobs: {}\n",
    "wide": "use_cases:\n    a:\n        title: A\n\n\njobs:\n    a:\n        use_case: a\n# end\n",
    "turned round": "jobs:\n  a:\n    b: a\nuse_cases:\n  a:\n    title: |\n      claims:\n\n      x\n",
    "windows": "use_cases:\r\n  a:\r\n    title: A\r\n\r\njobs:\r\n  a: {use_case: a}\r\n",
    "quoted": '"use_cases":\n  "a":\n    title: A\n"jobs": ~\n',
}


@pytest.mark.parametrize("text", FORMS.values(), ids=FORMS)
def test_a_block_is_inserted_at_the_end_of_its_section_and_nothing_else_changes(text):
    made = params_text.inserted(text, BLOCKS)
    old, new = (files.parse_yaml(t, where="params.yaml") for t in (text, made))
    assert new["use_cases"].pop("claims") == {"title": "Claims", "list": ["a"]}
    assert new["jobs"].pop("claims") == {"use_case": "claims"}
    assert new == {"use_cases": old.get("use_cases") or {}, "jobs": old.get("jobs") or {}}
    assert list(new["use_cases"]) == list(old["use_cases"] or {})
    kept = iter(made.splitlines())
    same = [line.replace(" {}", "").replace(" ~", "") for line in text.splitlines()]
    assert all(line in kept for line in same), "every line is there, in its order"
    assert ("\r\n" in text) == ("\r\n" in made) and made.count("\r") in {0, made.count("\n")}


@pytest.mark.parametrize("text", FORMS.values(), ids=FORMS)
def test_an_inserted_block_is_taken_out_again_and_the_rest_is_as_before(text):
    made = params_text.inserted(text, BLOCKS)
    for back in (params_text.removed(made, BLOCKS), params_text.cut(made, BLOCKS)):
        old, new = (files.parse_yaml(t, where="params.yaml") for t in (text, back))
        assert {key: value or {} for key, value in new.items()} | {"jobs": new.get("jobs") or {}} == {
            "use_cases": old["use_cases"] or {},
            "jobs": old.get("jobs") or {},
        }


def test_the_text_that_ships_is_byte_for_byte_as_before():
    text = FORMS["as it ships"]
    assert params_text.removed(params_text.inserted(text, BLOCKS), BLOCKS) == text


def test_a_block_that_was_changed_is_named_and_cut_only_on_demand():
    made = params_text.inserted(FORMS["as it ships"], BLOCKS).replace("title: Claims", "title: Damages")
    with pytest.raises(ConfigError, match=r"use_cases\.claims was changed") as caught:
        params_text.removed(made, BLOCKS)
    assert "workbench init claims --undo --force" in caught.value.hint
    assert params_text.cut(made, BLOCKS) == FORMS["as it ships"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("use_cases: {a: {title: A}}\n", "params.yaml:1: use_cases stands on one line"),
        ("use_cases: &all\n  a: {title: A}\njobs: *all\n", "use_cases stands on one line"),
        ("use_cases:\n\ta: 1\n", "params.yaml"),
        ("- a\n- b\n", "expected a mapping"),
    ],
)
def test_a_text_in_another_form_is_one_error_and_unchanged(text, said):
    with pytest.raises(ConfigError, match=r"params\.yaml") as caught:
        params_text.inserted(text, BLOCKS)
    assert said in caught.value.message
