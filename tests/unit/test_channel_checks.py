"""What `workbench check` and `workbench doctor` say of operations.yaml and its channels."""

from __future__ import annotations

import pytest
from made_jobs import PARAMS

from workbench.config.operations import OPERATIONS
from workbench.diagnostics import channels
from workbench.diagnostics.check import check_all


@pytest.fixture
def root(tmp_path):
    (tmp_path / "params.yaml").write_text(PARAMS)
    (tmp_path / "pipelines").mkdir()
    return tmp_path


def operated(root, text):
    (root / OPERATIONS).write_text(text)


def of_operations(root):
    return [item for item in check_all(root).findings if str(OPERATIONS) in item.what]


def test_check_reads_the_file_and_warns_of_an_unknown_job(root):
    assert of_operations(root) == []
    operated(root, "jobs: {answers: {}, answerz: {}}\n")
    fine, warned = of_operations(root)
    assert fine.problem == ""
    assert warned.warning
    assert "answers" in warned.problem
    operated(root, "jobs: {answers: {notify: [oncall]}}\n")
    [broken] = of_operations(root)
    assert "oncall" in broken.problem
    assert not broken.warning


def test_doctor_names_the_variable_or_program_that_a_channel_misses(root):
    operated(
        root,
        """\
channels:
  hook: {webhook_env: HOOK}
  chat: {url_env: CHAT}
  mail: {mail: {host: h, sender: a@b.c, to: [d@e.f], user: u, password_env: PASS}}
  page: {command: [no-such-program]}
  shell: {command: [sh, -c, "true"]}
  log: {file: n.jsonl}
""",
    )
    found = {
        item.what.partition(" ")[2]: item for item in channels.ready(root, environment={"HOOK": "https://x"})
    }
    assert {name: item.state for name, item in found.items()} == {
        "hook": "ok", "chat": "missing", "mail": "missing", "page": "missing", "shell": "ok", "log": "ok",
    }  # fmt: skip
    assert "CHAT" in found["chat"].fix
    assert "PASS" in found["mail"].detail
    assert "https" not in str(found["hook"])
    assert not any(item.needed for item in found.values())


def test_doctor_says_that_the_file_is_broken(root):
    operated(root, "channels: {a: {}}\n")
    [broken] = channels.ready(root)
    assert (broken.state, broken.fix) == ("broken", "workbench check")
