"""What each scenario of the libraries must leave behind, and the table of what works."""

from __future__ import annotations

from interop_libraries import LIBRARIES
from scripted_endpoint import TEXT

#: Some libraries read ahead in a task of their own: whether a read is pending when the reader leaves, and so
#: is cancelled, or is not, and the stream is only closed, is a matter of which of the two is faster.
LEFT = "cancelled or abandoned"
#: Scenario: the outcomes of its records, and the status of the error that the library raises.
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
STREAMED = {"stream", "abandoned", "broken stream"}
ERRORS = {"busy", "failing", "refusing", "unknown", "over budget"}


def scenarios_of(kind):
    """The scenarios that a library has."""
    lacking = set() if kind.stream else STREAMED
    lacking |= {verb for verb in ("tools", "structured") if not getattr(kind, verb)}
    lacking |= {"cancelled"} if kind.sync else set()
    lacking |= set() if kind.embedded else {"embedded model"}
    return [name for name in EXPECTED if name not in lacking]


CASES = [
    (environment, library, scenario)
    for environment, libraries in LIBRARIES.items()
    for library, kind in libraries.items()
    for scenario in scenarios_of(kind)
]


def faults_of(environment, library, scenario, lines):
    """What is wrong with what a scenario left behind; empty if nothing is."""
    kind = LIBRARIES[environment][library]
    (line,) = [line for line in lines if line.get("scenario") == f"{library}: {scenario}"]
    outcomes, status = EXPECTED[scenario]
    found = [record["outcome"] for record in line["records"]]
    elsewhere = status in {403, 404} or scenario == "embedded model"
    faults = []
    if len(found) != len(outcomes) or any(a not in b.split(" or ") for a, b in zip(found, outcomes)):  # noqa: B905
        faults.append(f"outcomes {found}, not {outcomes}")
    if line["requests"] != (0 if elsewhere else len(outcomes)):
        faults.append(f"{line['requests']} requests reached the endpoint")
    if scenario in STREAMED and [record["streamed"] for record in line["records"]] != [True]:
        faults.append("was not streamed")
    if bool(status) != ("raised" in line):
        faults.append(f"raised {line.get('raised')}: {line.get('error')}")
    elif scenario in ERRORS and line["status"] != status:
        faults.append(f"status {line['status']}, not {status}")
    elif status and "APIError" not in line["raised"]:
        faults.append("no error of the openai package is the cause")
    said = {"answer": TEXT, "stream": kind.streams, "structured": {"city": "Bern", "degrees": 21}}
    if line.get("said") != said.get(scenario, line.get("said")):
        faults.append(f"said {line.get('said')!r}")
    if scenario == "tools" and "21 degrees in Bern" not in str(line.get("said")):
        faults.append(f"the result of the tool is not in {line.get('said')!r}")
    if scenario == "over budget" and "budget spent" not in line.get("error", ""):
        faults.append(f"the error does not name the budget: {line.get('error')}")
    return faults


def table(told):
    """The rows of docs/libraries.md; `told` maps each environment to the lines of its run."""
    head = ["library", "package", "openai", "chat", "responses", "stream", "tools", "structured", "errors"]
    rows = [head, ["---"] * len(head)]
    for environment, libraries in LIBRARIES.items():
        versions = {line["package"]: line for line in told[environment] if "package" in line}
        titles = dict.fromkeys(kind.title for kind in libraries.values())
        for title in titles:
            kinds = {name: kind for name, kind in libraries.items() if kind.title == title}
            shown = {kind.package: versions[kind.package]["version"] for kind in kinds.values()}
            packages = ", ".join(f"{package} {version}" for package, version in shown.items())
            client = versions[next(iter(shown))]["openai"]
            cells = [_works(environment, kinds, column, told[environment]) for column in head[3:]]
            rows.append([title, packages, client, *cells])
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def _works(environment, kinds, column, lines):
    """Whether the scenarios of a column were right in every dialect that the library has."""
    asked = {"stream": STREAMED, "errors": ERRORS}.get(column, {column})
    if column in {"chat", "responses"}:
        kinds = {name: kind for name, kind in kinds.items() if kind.dialect == column}
        asked = {"answer", "cancelled"}
    ran = [(name, one) for name, kind in kinds.items() for one in scenarios_of(kind) if one in asked]
    if not ran:
        return "no"
    return "yes" if not any(faults_of(environment, name, one, lines) for name, one in ran) else "**faulty**"
