"""Classes of data as params.yaml states them: their order, their actions, and what is wrong with them."""

import dataclasses
from pathlib import Path

import pytest
from clones import ROOT
from small_use_case import small_repository

from workbench import config, registry
from workbench.config import Privacy, data_rules
from workbench.diagnostics.check import _look_at_prompt, check_all
from workbench.diagnostics.kinds import unknown_kinds
from workbench.errors import ConfigError
from workbench.promotion.requirements import unenforced


def params_with(folder: Path, text: str) -> config.Params:
    (folder / "params.yaml").write_text((ROOT / "params.yaml").read_text() + "\n" + text + "\n")
    return config.load_params(folder)


def test_own_classes_take_the_actions_of_their_like_and_rank_above_it(tmp_path):
    text = (
        "data_classes: {health: {like: secret, external: refuse}, personal: {logs: pass}, "
        "pay: {like: personal, kinds: [card]}}"
    )
    rules = data_rules(params_with(tmp_path, text).data_classes)
    assert list(rules.actions) == ["public", "internal", "personal", "pay", "secret", "health"]
    assert (rules.action("health", "external"), rules.action("health", "logs")) == ("refuse", "mask")
    assert rules.action("pay", "external") == "pseudonymise" and rules.class_of("card", "personal") == "pay"
    assert rules.action("personal", "logs") == "pass" and rules.action("unknown", "outputs") == "refuse"
    assert rules.highest(["public", "pay", "personal"]) == "pay" and rules.highest([]) == ""


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("{health: {external: mask}}", "health.like"),
        ("{health: {like: helth}}", "helth"),
        ("{personal: {like: secret}}", "personal.like"),
        ("{personal: {external: maks}}", "maks"),
        ("{personal: {outwards: mask}}", "outwards"),
        ("{a: {like: personal, kinds: [card]}, b: {like: personal, kinds: [card]}}", "'card'"),
        ("{'a b': {like: personal}}", "a b"),
    ],
)
def test_a_class_that_says_nothing_clear_is_an_error_with_its_key(tmp_path, text, named):
    with pytest.raises(ConfigError, match="data_classes") as caught:
        params_with(tmp_path, f"data_classes: {text}")
    assert named in caught.value.message


def test_a_lexicon_outside_of_the_repository_is_an_error(tmp_path):
    with pytest.raises(ConfigError, match=r"privacy\.lexicon"):
        params_with(tmp_path, "privacy: {lexicon: ../names.txt}")


def test_phase_mlvp_demands_that_privacy_is_enforced(tmp_path):
    case = params_with(tmp_path, "").use_cases["answers"]
    observed = dataclasses.replace(case, phase="mlvp", privacy=Privacy(enforce="observe"))
    assert "privacy: {enforce: enforce}" in unenforced("answers", observed)
    assert unenforced("answers", dataclasses.replace(observed, phase="mvp")) == ""
    assert unenforced("answers", dataclasses.replace(observed, privacy=Privacy())) == ""


def test_check_names_a_class_of_a_prompt_that_there_is_not(tmp_path):
    params_with(tmp_path, "data_classes: {health: {like: secret}}")
    text = (ROOT / "pipelines/prompts/answer/2.prompty").read_text().replace("parent: 1\n", "")
    for name, stated in (("good", "health"), ("bad", "helth")):
        made = text.replace("name: answer", f"name: {name}").replace(
            "data_class: internal", f"data_class: {stated}"
        )
        registry.save_version(tmp_path, "prompt", name, made.encode(), author="t", reason="t", parent=None)
    _look_at_prompt(tmp_path, "good@1")
    with pytest.raises(ConfigError, match=r"data_class.*'helth'.*'health'"):
        _look_at_prompt(tmp_path, "bad@1")


@pytest.mark.parametrize(
    ("stated", "said"),
    [
        ("presidio: en", "presidio-analyzer"),
        ("gliner: models/none", "gliner"),
        ("lexicon: pipelines/privacy/none.txt", "none.txt"),
    ],
)
def test_check_names_a_detector_that_no_call_could_use(tmp_path, stated, said):
    root = small_repository(tmp_path)
    assert not [item for item in check_all(root).findings if item.what.startswith("privacy")]
    params = root / "params.yaml"
    params.write_text(params.read_text() + f"privacy: {{{stated}}}\n")
    (found,) = [item for item in check_all(root).findings if item.what.startswith("privacy")]
    assert said in (found.problem or "") and not found.warning


def test_check_warns_of_a_kind_that_nothing_finds_or_declares(tmp_path):
    terms = tmp_path / "pipelines" / "privacy" / "terms.txt"
    terms.parent.mkdir(parents=True)
    terms.write_text("[customer]\nAcme Ltd\n")
    stated = (
        "privacy: {lexicon: pipelines/privacy/terms.txt}\ndata_classes: {pay: {like: personal, kinds: [%s]}}"
    )
    text = (ROOT / "pipelines/prompts/answer/2.prompty").read_text().replace("parent: 1\n", "")
    params = params_with(tmp_path, stated % "card, customer, crad, plate, unheard")
    assert [place for place, _ in unknown_kinds(tmp_path, params)] == ["data_classes.pay.kinds"] * 3
    (problem, *_) = (problem for _, problem in unknown_kinds(tmp_path, params))
    assert "'crad' (nearest: 'card'" in problem
    declared = text.replace("name: answer", "name: a").replace(
        "data_class: internal", "data_class: pay\n    kind: plate", 1
    )
    registry.save_version(tmp_path, "prompt", "a", declared.encode(), author="t", reason="t", parent=None)
    assert [problem.count("'plate'") for _, problem in unknown_kinds(tmp_path, params)] == [0, 0]
