from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from workbench import config
from workbench.config import Execution
from workbench.errors import ConfigError, NotFoundError

SHIPPED = Path(__file__).parents[2] / "params.yaml"


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("    owner:", "    ownr:", r"unknown key 'use_cases\.answers\.ownr' \(nearest: 'owner'"),
        ("    title: Answers from the company handbook\n", "", r"missing key 'use_cases\.answers\.title'"),
        ("prompt: {name: answer, version: 2}", "prompt: answer@2", r"use_cases\.answers\.prompt"),
        ("phase: mvp", "phase: mlpv", r"use_cases\.answers\.phase"),
        ('as_of: "2026-11-01"', 'as_of: "1st of May"', "is not a day like"),
        ("tenants: [acme, globex, python]", "tenants: []", "there is no untenanted call"),
        ("      mvp:\n", "      mpv:\n", "gates has no column for phase 'mvp'"),
        ("    concurrency: 2", "    base_url: localhost", "is not an http address"),
        ("    concurrency: 2", "    concurrency: 0", "concurrency must be 1 or more"),
        ("    seed: 7", f"    seed: {'9' * 23}", r"use_cases\.answers\.seed: integer exceeds 64-bit range"),
        ("    baseline: few_shot", "    baseline: candidate", "'candidate' is the candidate itself"),
        ("    seed: 7", "    seed: [7", r"params\.yaml:\d+: "),
    ],
)
def test_a_wrong_key_or_value_of_params_is_named(tmp_path, before, after, said):
    text = SHIPPED.read_text()
    assert before in text
    (tmp_path / "params.yaml").write_text(text.replace(before, after, 1))
    with pytest.raises(ConfigError, match=said) as caught:
        config.load_params(tmp_path)
    assert caught.value.hint


@pytest.mark.parametrize(
    ("text", "said"),
    [("", "found nothing"), ("use_cases: {}\n", "names none"), ("- a\n", "found list")],
)
def test_params_without_a_use_case_say_how_to_get_them_back(tmp_path, text, said):
    (tmp_path / "params.yaml").write_text(text)
    with pytest.raises(ConfigError, match=said) as caught:
        config.load_params(tmp_path)
    assert caught.value.hint == "git checkout -- params.yaml"


def test_an_unknown_use_case_is_answered_with_the_nearest():
    with pytest.raises(NotFoundError, match=r"no use case .answer. .*nearest: .answers."):
        config.use_case(config.load_params(SHIPPED.parent), "answer")


def test_the_repository_is_found_from_any_folder_inside(tmp_path):
    (tmp_path / "params.yaml").write_text("use_cases: {}\n")
    inside = tmp_path / "a" / "b"
    inside.mkdir(parents=True)
    assert config.find_root(inside) == tmp_path.resolve()
    with pytest.raises(NotFoundError, match=r"no params\.yaml"):
        config.find_root(tmp_path.parent)


def test_an_execution_reaches_its_kernel_through_the_environment(monkeypatch):
    sent = Execution(notebook="n.ipynb", use_case="answers", tape="t", mode="replay")
    for name, value in sent.environment().items():
        monkeypatch.setenv(name, value)
    assert Execution.current() == sent
    monkeypatch.setenv(config.EXECUTION_VARIABLE, '{"notebook": "n", "odd": 1}')
    with pytest.raises(ConfigError, match="unknown key 'odd'"):
        Execution.current()
    monkeypatch.delenv(config.EXECUTION_VARIABLE)
    assert Execution.current() is None


def test_a_pin_reads_as_a_reference():
    assert str(config.Pin(name="answer", version=2)) == "answer@2"
    assert dataclasses.is_dataclass(config.Pin)
