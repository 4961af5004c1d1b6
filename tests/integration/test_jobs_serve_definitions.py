"""What a server serves: labelled versions that are committed, and the faults of the others."""

from __future__ import annotations

import dataclasses
import datetime as dt
import re
import shutil

import pytest
from made_jobs import copied, frozen, judged_repository
from made_repositories import git, saved

from workbench import files, registry
from workbench.config import Timing
from workbench.config.operations import JobOperation
from workbench.errors import ConfigError
from workbench.scheduler.definitions import DefinitionReader


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    root = judged_repository(tmp_path_factory.mktemp("served") / "repository")
    frozen(root, 1, label="production")
    return root


@pytest.fixture
def root(served, tmp_path):
    return copied(served, tmp_path / "repository")


def only(root, **options):
    (found,) = DefinitionReader(root, **options).read().found
    return found


def test_a_definition_is_the_version_in_production_with_its_schedule_from_the_move_on(root):
    found = only(root)
    assert (found.job, found.role, found.version, found.seconds) == ("answers", "production", 1, 60)
    assert (found.schedule.cron, found.schedule.timezone) == ("0 6 * * *", "UTC")
    assert found.moved_at == dt.datetime(2025, 1, 1, tzinfo=dt.UTC)  # by the clock of the test that moved it
    assert found.tenants == ("",) and found.operation == JobOperation()


def test_the_schedule_of_the_version_before_counts_until_the_move(root):
    frozen(root, 2, label="production", schedule=Timing(cron="0 18 * * *", timezone="Europe/Berlin"))
    before, now = only(root).eras
    assert (before.schedule.cron, now.schedule.cron) == ("0 6 * * *", "0 18 * * *")
    assert only(root, rehearsal=True).eras[0].schedule == now.schedule  # as if it had always had its label


def test_a_withdrawn_version_is_served_by_the_one_before_it(root):
    frozen(root, 2, label="production", schedule=Timing(cron="0 18 * * *"))
    reader = DefinitionReader(root, withdrawn=lambda: withdrawn)
    withdrawn = {}
    assert reader.read().found[0].version == 2
    withdrawn = {"answers": frozenset({2})}
    (found,) = reader.read().found
    assert (found.version, found.schedule.cron, len(found.eras)) == (1, "0 6 * * *", 1)


def test_a_shadow_has_the_slots_of_its_own_schedule_beside_production(root):
    frozen(root, 2, label="shadow", schedule=Timing(cron="0 6 * * *"))
    found = DefinitionReader(root).read().found
    assert [(item.role, item.version) for item in found] == [("production", 1), ("shadow", 2)]
    assert found[1].name == "answers (shadow)"


def test_operations_give_tenants_to_a_job_and_unknown_ones_are_a_fault(root):
    saved(root, "Operate", **{"pipelines/operations.yaml": b"jobs:\n  answers: {tenants: [acme]}\n"})
    assert only(root).tenants == ("acme",)
    saved(root, "Operate", **{"pipelines/operations.yaml": b"jobs:\n  answers: {tenants: [acme, initech]}\n"})
    found = DefinitionReader(root).read()
    assert found.found == () and "'initech'" in found.faults["answers"]


@pytest.mark.parametrize(
    "line",
    [
        "schedule: {timezone: UTC}", "schedule: [6]", "schedule: {cron: 6, timezone: UTC}", "schedule: daily",
        "schedule: {cron: '0 0 30 2 *', timezone: UTC}", "schedule: {cron: '0 6 * * *', timezone: Mars/Base}",
        "limits: {}", "limits: {seconds: soon}", "limits: {seconds: true}", "limits: 5",
        "use_case: [answers]", "use_case: {a: b}",
    ],
)  # fmt: skip
def test_a_page_that_somebody_committed_by_hand_stops_no_other_job(root, line):
    page, key = root / "pipelines/jobs/answers/1/job.yaml", line.partition(":")[0]
    text = re.sub(rf"^{key}:.*\n(?:[ -].*\n)*", f"{line}\n", page.read_text(), flags=re.MULTILINE)
    page.write_text(text)
    shutil.copytree(page.parents[1], root / "pipelines/jobs/other")
    asset = registry.load(root, "job", "answers")
    entry = dataclasses.replace(asset.versions[1], digest=files.digest(text.encode()))
    registry.write(root, dataclasses.replace(asset, versions={1: entry}))
    git(root, "checkout", "--quiet", "--", "pipelines/jobs/answers/1")
    other = root / "pipelines/jobs/other/asset.yaml"
    other.write_text(other.read_text().replace("name: answers", "name: other").replace(
        asset.versions[1].digest, entry.digest))  # fmt: skip
    git(root, "checkout", "--quiet", "--", "pipelines/jobs/answers")
    saved(root, "By hand")
    found = DefinitionReader(root).read()
    assert [item.job for item in found.found] == ["answers"] and list(found.faults) == ["other"]


@pytest.mark.parametrize("name", ["tagesabschlu\u00df", "\u0430nswers"])
def test_a_job_whose_name_is_no_folder_of_outputs_stops_no_other_job(root, name):
    shutil.copytree(root / "pipelines/jobs/answers", root / "pipelines/jobs" / name)
    page = root / "pipelines/jobs" / name / "asset.yaml"
    page.write_text(page.read_text().replace("name: answers", f"name: {name}"))
    saved(root, "By hand")
    found = DefinitionReader(root).read()
    assert [item.job for item in found.found] == ["answers"] and list(found.faults) == [name]


@pytest.mark.parametrize("share", [".nan", ".inf", "0", "1", "101", "-0.1"])
def test_a_share_that_is_none_is_refused_where_the_labels_are_read(root, share):
    page = root / "pipelines/jobs/answers/asset.yaml"
    stated = f'label: canary, version: 1, by: "A", at: "2026-11-24T06:00:00Z", reason: "", share: {share}'
    line = f"  - {{{stated}}}\n"
    saved(root, "By hand", **{"pipelines/jobs/answers/asset.yaml": page.read_text() + line})
    with pytest.raises(ConfigError, match=r"share|finite"):
        registry.load(root, "job", "answers")


def test_a_job_in_operations_that_does_not_exist_is_a_fault(root):
    saved(root, "Operate", **{"pipelines/operations.yaml": b"jobs:\n  anwsers: {priority: 1}\n"})
    found = DefinitionReader(root).read()
    assert len(found.found) == 1 and list(found.faults) == ["pipelines/operations.yaml: jobs.anwsers"]


def test_a_definition_is_read_again_when_it_changed_and_not_before(root):
    reader = DefinitionReader(root)
    first = reader.read()
    assert reader.read() is first
    saved(root, "Operate", **{"pipelines/operations.yaml": b"defaults: {priority: 7}\n"})
    assert reader.read().found[0].operation.priority == 7


def test_an_operations_file_that_breaks_leaves_the_last_valid_one(root):
    path = root / "pipelines/operations.yaml"
    path.write_text("defaults: {priority: 7}\n")
    reader = DefinitionReader(root)
    assert reader.read().found[0].operation.priority == 7
    path.write_text("defaults: {priorty: 8}\n")
    found = reader.read()
    assert found.found[0].operation.priority == 7 and "priorty" in found.faults["pipelines/operations.yaml"]
    with pytest.raises(ConfigError, match="priorty"):
        DefinitionReader(root).read()


def test_a_move_that_is_not_committed_is_not_served_and_says_the_command(root):
    asset = registry.load(root, "job", "answers")
    registry.write(root, dataclasses.replace(asset, labels={**asset.labels, "candidate": 1}))
    found = DefinitionReader(root).read()
    assert found.found == () and "git commit" in found.faults["answers"]
    git(root, "commit", "--quiet", "--all", "--message", "Move")
    assert DefinitionReader(root).read().faults == {}


@pytest.mark.parametrize(
    ("name", "change", "word"),
    [
        ("pipelines/jobs/answers/1/job.yaml", lambda data: data.replace(b"0 6 *", b"0 7 *"), "changed"),
        ("pipelines/jobs/answers/asset.yaml", lambda data: b"kind: job\nname: [", "asset.yaml"),
        ("pipelines/jobs/answers/asset.yaml", lambda data: data.replace(b"2025-01-01T", b"tuesday "), "time"),
    ],
)
def test_a_bad_definition_is_said_and_stops_no_other(root, name, change, word):
    good = root / "pipelines/jobs/other"
    (root / "pipelines/jobs/answers").rename(good)
    for path in (good / "asset.yaml", good / "1/job.yaml"):
        path.write_bytes(
            path.read_bytes()
            .replace(b"answers\n", b"other\n")
            .replace(b"use_case: other", b"use_case: answers")
        )
    entry = registry.load(root, "job", "other").versions[1]
    page = dataclasses.replace(entry, digest=files.digest((good / "1/job.yaml").read_bytes()))
    asset = registry.load(root, "job", "other")
    registry.write(root, dataclasses.replace(asset, versions={1: page}))
    git(root, "checkout", "--quiet", "HEAD", "--", "pipelines/jobs/answers")
    path = root / name
    path.write_bytes(change(path.read_bytes()))
    saved(root, "Break")
    found = DefinitionReader(root).read()
    assert [item.job for item in found.found] == ["other"]
    assert list(found.faults) == ["answers"] and word in found.faults["answers"]
