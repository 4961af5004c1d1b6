"""What other schedulers read from a schedule: the same times, by a second implementation of cron."""

from __future__ import annotations

import ast
import dataclasses
import datetime as dt
import shlex
from pathlib import Path

import pytest
from croniter import croniter
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from workbench.errors import ConfigError, RefusedError
from workbench.jobs.exports import JobEntry, to_airflow, to_github, to_kubernetes
from workbench.jobs.exports.dialect import in_utc, portable
from workbench.jobs.schedule import Schedule

NOW = dt.datetime(2026, 11, 24, 23, tzinfo=dt.UTC)
FIELDS = [
    ["0", "7", "*/20", "5,35", "50-59/3", "*"],
    ["0", "6", "2,23", "*/4", "17-23", "*"],
    ["*", "1", "13,28", "*/7", "2-27", "1-31"],
    ["*", "2", "jan,jul", "*/5"],
    ["*", "0", "7", "mon-fri", "*/2", "sat,2", "0-6"],
]
LINES = st.tuples(*map(st.sampled_from, FIELDS))
FIXED = ["UTC", "Asia/Kolkata", "Asia/Kathmandu", "Asia/Tokyo", "America/Bogota", "Pacific/Kiritimati"]
HOSTILE = "x: {{ 1 }} ${{ github.token }} $(PATH) %n \"'\\ # -\n- é\u2028*&!|>`'''\"\"\""


def entry(cron="0 6 * * *", timezone="UTC", **given):
    plain = JobEntry(
        name="answers",
        root=Path("/repo"),
        command=("/repo/.venv/bin/workbench", "jobs", "run", "answers"),
        schedule=Schedule.parse(cron, timezone, where="params.yaml"),
        seconds=900,
    )
    return dataclasses.replace(plain, **given)


def parsed(fields, zone):
    try:
        return Schedule.parse(" ".join(fields), zone, where="params.yaml")
    except ConfigError:
        assume(False)


def attempted(translate, schedule, **given):
    try:
        return translate(dataclasses.replace(entry(), schedule=schedule), scheduler="x", **given)
    except RefusedError as error:
        return error


def theirs(lines, n):
    """The first `n` times of lines in UTC, as croniter reads them."""
    found = set()
    for line in lines:
        times = croniter(line, NOW)
        found |= {times.get_next(dt.datetime) for _ in range(n)}
    return sorted(found)[:n]


@settings(max_examples=200)
@given(LINES)
@example(("0", "6", "*/7", "*", "0-6"))
@example(("0", "6", "1-31", "*", "mon-fri"))
@example(("0", "6", "13,28", "*", "7"))
def test_a_portable_line_is_due_when_the_schedule_is(fields):
    schedule = parsed(fields, "UTC")
    found = attempted(portable, schedule)
    if isinstance(found, RefusedError):
        assert "both day fields" in str(found) and "--to systemd" in found.hint
        assert any(text.startswith("*/") for text in fields[2::2])
    else:
        assert theirs([found.line()], 20) == schedule.after(NOW, 20)


@settings(max_examples=200)
@given(LINES, st.sampled_from(FIXED))
@example(("50-59/3", "2,23", "13,28", "*", "mon-fri"), "Asia/Kolkata")
@example(("0", "17-23", "2-27", "2", "*"), "America/Bogota")
def test_lines_in_utc_are_due_when_the_schedule_is(fields, zone):
    schedule = parsed(fields, zone)
    found = attempted(in_utc, schedule, now=NOW)
    if isinstance(found, RefusedError):
        assert "both day fields" in str(found) or "another day in UTC" in str(found)
    else:
        assert theirs([fields.line() for fields in found], 20) == schedule.after(NOW, 20)


@pytest.mark.parametrize(
    ("cron", "zone", "lines"),
    [
        ("0 6 * * 1-5", "UTC", ["0 6 * * 1-5"]),
        ("0 6 * * 1", "Asia/Tokyo", ["0 21 * * 0"]),
        ("0 23 * * 6", "America/Bogota", ["0 4 * * 0"]),
        ("0 6 2,15 * *", "Asia/Tokyo", ["0 21 1,14 * *"]),
        ("0,45 5,6 * * *", "Asia/Kolkata", ["30 0,23 * * *", "15 0,1 * * *"]),
        ("30 * * * *", "Asia/Tokyo", ["30 * * * *"]),
    ],
)
def test_times_of_a_zone_without_clock_changes_are_converted(cron, zone, lines):
    assert [fields.line() for fields in in_utc(entry(cron, zone), scheduler="GitHub", now=NOW)] == lines


@pytest.mark.parametrize(
    ("cron", "zone", "given", "said"),
    [
        ("0 6 * * *", "Europe/Berlin", {}, "Europe/Berlin, whose clock changes"),
        ("0 6 1 * *", "Asia/Tokyo", {}, "on another day in UTC"),
        ("0 6 29 * *", "Asia/Tokyo", {}, "on another day in UTC"),
        ("0 6 * 3 *", "Asia/Tokyo", {}, "on another day in UTC"),
        ("0 23 28 * *", "America/Bogota", {}, "on another day in UTC"),
        ("0 6 */2 * 1", "UTC", {}, "match both day fields"),
        ("*/4 6 * * *", "UTC", {}, "more often than every 5 minutes"),
        ("0,58 6,7 * * *", "UTC", {}, "more often than every 5 minutes"),
        ("0 6 * * *", "UTC", {"seconds": 21_600}, "six hours"),
    ],
)
def test_what_github_cannot_do_is_refused_with_a_command_that_can(cron, zone, given, said):
    with pytest.raises(RefusedError, match=said) as caught:
        to_github(entry(cron, zone, **given), now=NOW)
    assert caught.value.hint.startswith("workbench jobs export answers --to ")


def test_times_at_both_ends_of_a_day_are_not_close_when_they_are_not():
    assert "cron: 0,58 6 * * *" in to_github(entry("0,58 6 * * *"), now=NOW)["workbench-answers.yml"]


def body(text):
    return YAML(typ="safe", pure=True).load(text)


def test_a_cron_job_forbids_overlap_and_has_the_zone_and_deadlines_of_the_job():
    keyed = entry("30 2 1 * mon-fri", "Europe/Berlin", variables=("KEY",), start_deadline_s=7200)
    spec = body(to_kubernetes(keyed, now=NOW)["answers.cronjob.yaml"])["spec"]
    assert (spec["schedule"], spec["timeZone"]) == ("30 2 1 * 1-5", "Europe/Berlin")
    assert (spec["concurrencyPolicy"], spec["startingDeadlineSeconds"]) == ("Forbid", 7200)
    pod = spec["jobTemplate"]["spec"]["template"]["spec"]
    assert (pod["restartPolicy"], pod["activeDeadlineSeconds"]) == ("Never", 1020)
    [container] = pod["containers"]
    assert container["command"] == ["/usr/bin/tini", "--", "workbench", "jobs", "run", "answers"]
    secret = {"secretKeyRef": {"name": "workbench-answers", "key": "KEY"}}
    assert container["env"][1:] == [{"name": "KEY", "valueFrom": secret}]
    assert pod["securityContext"]["runAsNonRoot"] and container["securityContext"]["readOnlyRootFilesystem"]
    assert container["resources"]["limits"] and not pod["automountServiceAccountToken"]


@pytest.mark.parametrize("cron", ["* * * * *", "*/5 * * * *", "0 0 1 1 *"])
def test_a_line_that_begins_with_a_star_is_read_back_from_each_manifest(cron):
    job = body(to_kubernetes(entry(cron), now=NOW)["answers.cronjob.yaml"])
    assert theirs([job["spec"]["schedule"]], 5) == entry(cron).schedule.after(NOW, 5)
    if cron != "* * * * *":
        workflow = body(to_github(entry(cron), now=NOW)["workbench-answers.yml"])
        [line] = workflow["on"]["schedule"]
        assert theirs([line["cron"]], 5) == entry(cron).schedule.after(NOW, 5)


def test_a_cron_job_names_the_run_that_kubernetes_leaves_out():
    text = to_kubernetes(entry("30 2 * * *", "Europe/Berlin"), now=NOW)["answers.cronjob.yaml"]
    assert "# Where clocks change, Kubernetes leaves out 2027-03-28T01:00Z\n" in text
    assert "leaves out" not in to_kubernetes(entry(), now=NOW)["answers.cronjob.yaml"]


@pytest.mark.parametrize("name", ["Answers_of-me-", "a" * 63, "A", "x_"])
def test_each_name_of_a_job_gives_another_name_that_kubernetes_takes(name):
    plain, other = entry(name=name).dns_name, entry(name=name.lower() + "z").dns_name
    assert plain != other and len(plain) <= 52
    assert plain.replace("-", "").isalnum() and plain == plain.lower() and plain[-1] != "-"


def test_no_description_or_path_reaches_another_place_of_a_manifest():
    wicked = entry(
        description=HOSTILE,
        root=Path("/a {{ b }} '\"\\"),
        command=("/w", "jobs", "run", "x $(HOME) ${{ y }} '"),
    )
    job = body(to_kubernetes(wicked, now=NOW)["answers.cronjob.yaml"])
    title = job["metadata"]["annotations"]["workbench/title"]
    assert title == wicked.title and "\n" not in title
    [container] = job["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"]
    assert container["command"][-1] == "x $$(HOME) ${{ y }} '", "Kubernetes reads $$( as $("
    workflow = to_github(wicked, now=NOW)["workbench-answers.yml"]
    lines = [step["run"] for step in body(workflow)["jobs"]["run"]["steps"] if "x $" in step.get("run", "")]
    assert [shlex.split(line)[2] for line in lines] == ["install", "run"]  # its lock may be another one
    for line in lines:
        assert shlex.split(line)[3] == "x $(HOME) ${{ y }} '" and "${{" not in line
    source = to_airflow(wicked, now=NOW)["workbench_answers.py"]
    values = {
        node.targets[0].id: ast.literal_eval(node.value)
        for node in ast.parse(source).body
        if isinstance(node, ast.Assign)
    }
    assert values == {"COMMAND": list(wicked.command), "FOLDER": str(wicked.root)}
    for text in (workflow, source):
        code = [line for line in text.splitlines() if not line.startswith("#")]
        assert not [line for line in code if line.startswith(("- é", "é"))]


def test_a_workflow_reads_its_secrets_by_name_and_may_only_read_the_repository():
    workflow = body(to_github(entry(variables=("KEY",)), now=NOW)["workbench-answers.yml"])
    assert workflow["permissions"] == {"contents": "read"}
    steps = workflow["jobs"]["run"]["steps"]
    assert [step.get("env") for step in steps if step.get("env")] == [{"KEY": "${{ secrets.KEY }}"}]
