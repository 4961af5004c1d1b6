"""LangChain and pydantic-ai given our clients: each call leaves one settled record."""

from __future__ import annotations

import json
import subprocess

import pytest
from clones import ROOT, Clone

INTEROP = ROOT / ".venv-interop" / "bin" / "python"
SCRIPT = ROOT / "tests" / "support" / "interop_script.py"
#: pydantic-ai reads ahead in a task of its own: whether a read is pending when the reader leaves, and so
#: is cancelled, or is not, and the stream is only closed, is a matter of which of the two is faster.
LEFT = "cancelled or abandoned"
#: Scenario, outcome of its one record, and whether it was streamed.
EXPECTED = {
    "langchain answer": ("ok", False),
    "langchain stream": ("ok", True),
    "langchain abandoned": ("abandoned", True),
    "langchain error": ("refused", False),
    "langchain async answer": ("ok", False),
    "langchain async stream": ("ok", True),
    "langchain async abandoned": ("abandoned", True),
    "langchain async cancelled": ("cancelled", False),
    "pydantic-ai answer": ("ok", False),
    "pydantic-ai stream": ("ok", True),
    "pydantic-ai abandoned": (LEFT, True),
    "pydantic-ai cancelled": ("cancelled", False),
    "pydantic-ai error": ("refused", False),
}


@pytest.fixture(scope="module")
def scenarios(tmp_path_factory):
    if not INTEROP.exists():
        pytest.skip("make interop")
    folder = tmp_path_factory.mktemp("interop")
    clone = Clone(folder=folder / "clone", home=folder / "home")
    clone.home.mkdir()
    subprocess.run(["git", "clone", "--quiet", ROOT, clone.folder], check=True)
    output = clone.run(str(INTEROP), str(SCRIPT), timeout=240)
    told = [json.loads(line) for line in output.splitlines() if line.startswith('{"scenario"')]
    return {one["scenario"]: one for one in told}


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", EXPECTED)
def test_a_call_of_another_library_leaves_exactly_one_settled_record(scenarios, name):
    (record,) = scenarios[name]["records"]
    outcome, streamed = EXPECTED[name]
    assert record["outcome"] in outcome.split(" or ")
    assert record["streamed"] == streamed


def test_answers_and_streams_arrive(scenarios):
    said = {name: one["said"] for name, one in scenarios.items()}
    assert said["langchain answer"] and said["langchain answer"] == said["langchain async answer"]
    assert said["langchain stream"] == said["langchain async stream"] == said["langchain answer"]
    assert said["pydantic-ai stream"] == said["pydantic-ai answer"]


def test_errors_arrive_as_the_exceptions_the_library_knows(scenarios):
    assert scenarios["langchain unknown model"]["said"] == "OpenAIModelNotFoundError"
    assert scenarios["langchain unknown model"]["records"] == []
    assert scenarios["langchain error"]["said"] == "OpenAIInvalidRequestError"
    assert scenarios["pydantic-ai error"]["said"] == "ModelRequestRejectedError"
