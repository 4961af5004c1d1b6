"""Today's libraries given our clients: each call leaves one settled record, and no budget stays reserved."""

from __future__ import annotations

import json
import subprocess

import pytest
from clones import ROOT, Clone
from interop_libraries import LIBRARIES
from scripted_endpoint import TEXT

SCRIPT = ROOT / "tests" / "support" / "interop_script.py"
#: Some libraries read ahead in a task of their own: whether a read is pending when the reader leaves, and so
#: is cancelled, or is not, and the stream is only closed, is a matter of which of the two is faster.
LEFT = "cancelled or abandoned"
#: Scenario: the outcomes of its records, whether a request must have reached the server, the status raised.
EXPECTED = {
    "answer": (["ok"], 0),
    "stream": (["ok"], 0),
    "abandoned": ([LEFT], 0),
    "broken stream": (["failed"], 500),
    "tools": (["ok", "ok"], 0),
    "structured": (["ok"], 0),
    "cancelled": (["cancelled"], 0),
    "busy": (["failed"], 429),
    "failing": (["failed"], 500),
    "refusing": (["refused"], 400),
    "unknown": ([], 404),
    "over budget": (["refused"], 403),
    "embedded model": (["ok"], 0),
}
#: What a scenario raises: one of the classes that the caller of the library may catch.
RAISED = {
    429: {"RateLimitError", "ModelRateLimitError"},
    500: {"InternalServerError", "ModelServerError", "APIError"},
    400: {"BadRequestError", "ModelRequestRejectedError"},
    404: {"NotFoundError", "ModelNotFoundError"},
    403: {"PermissionDeniedError", "ModelAuthenticationError"},
}
SAID = {"answer": TEXT, "stream": TEXT, "structured": {"city": "Bern", "degrees": 21}}
STREAMED = {"stream", "abandoned", "broken stream"}


def scenarios_of(kind):
    """The scenarios that a library has."""
    lacking = set() if getattr(kind, "stream", None) else STREAMED
    lacking |= {verb for verb in ("tools", "structured") if not getattr(kind, verb, None)}
    lacking |= {"cancelled"} if kind.sync else set()
    lacking |= set() if kind.embedded else {"embedded model"}
    return [name for name in EXPECTED if name not in lacking]


CASES = [
    (environment, library, scenario)
    for environment, libraries in LIBRARIES.items()
    for library, kind in libraries.items()
    for scenario in scenarios_of(kind)
]


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """What the script printed in each environment, run when first asked for."""
    found = {}

    def run(environment):
        if environment not in found:
            python = ROOT / f".venv-{environment}" / "bin" / "python"
            assert python.exists(), "make interop"
            folder = tmp_path_factory.mktemp(environment)
            clone = Clone.at(folder)
            clone.home.mkdir()
            subprocess.run(["git", "clone", "--quiet", ROOT, clone.folder], check=True)
            output = clone.run(str(python), str(SCRIPT), environment, timeout=240)
            found[environment] = [json.loads(line) for line in output.splitlines() if line.startswith("{")]
        return found[environment]

    return run


def scenario_of(lines, library, scenario):
    (found,) = [line for line in lines if line.get("scenario") == f"{library}: {scenario}"]
    return found


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize(("environment", "library", "scenario"), CASES)
def test_each_request_of_a_library_leaves_one_settled_record(told, environment, library, scenario):
    line = scenario_of(told(environment), library, scenario)
    outcomes, status = EXPECTED[scenario]
    assert len(line["records"]) == len(outcomes)
    for record, outcome in zip(line["records"], outcomes, strict=True):
        assert record["outcome"] in outcome.split(" or ")
    elsewhere = status in {403, 404} or scenario == "embedded model"
    assert line["requests"] == (0 if elsewhere else len(outcomes))
    if status:
        assert RAISED[status].intersection(line["raised"]), line
    if scenario in STREAMED:
        assert [record["streamed"] for record in line["records"]] == [True]
    if scenario in SAID:
        assert line["said"] == SAID[scenario]
    if scenario == "tools":
        assert "21 degrees in Bern" in line["said"]
    if scenario == "over budget":
        assert "budget spent" in line["error"]


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("environment", LIBRARIES)
def test_nothing_stays_reserved(told, environment):
    assert told(environment)[-1] == {"reserved": 0.0}
