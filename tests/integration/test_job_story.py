"""docs/jobs-in-production.md, followed to the letter: a job's way to production, and back by itself.

Two persons, a hand-set clock, the embedded model, the commands as typed, and a receiver of notices over
HTTP. The judge's answers are recorded in `recorded/`; every row of the job is asked of the model.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import polars as pl
import pytest
from clone_edits import commit, emptied, processes, replaced, runs
from clones import Clone
from documented_pages import check_shown, page_of
from notice_receivers import Received, http_receiver
from second_verifier import faults_of

from workbench import registry
from workbench.context import SystemClock
from workbench.jobs import publishing
from workbench.jobs.ledger import open_ledger

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

PAGE = page_of("jobs-in-production.md")
BLOCK = re.compile(
    r"^<!-- (?P<verb>file|append|run|shows|notice)(?:: (?P<what>[^\n]*))? -->\n```\w+\n(?P<text>.*?)^```$",
    re.DOTALL | re.MULTILINE,
)
RECORDED = sorted(Path(__file__).with_name("recorded").glob("rental*.jsonl"))
#: A block begins with the variables that the one before it left.
CARRIED = (
    "set -euo pipefail; [ ! -f ~/.before ] || . ~/.before; [ ! -f ~/story.sh ] || . ~/story.sh\n"
    "{text}\nexport -p | grep -v ONCALL_WEBHOOK > ~/.before"
)


class Reader:
    """Somebody who does what the pages say, with a receiver of notices."""

    def __init__(self, clone: Clone, received) -> None:
        self.clone, self.received, self.output = clone, received, ""

    def follow(self, page: str) -> None:
        for step in BLOCK.finditer(page):
            getattr(self, step["verb"])(step["what"] or "", step["text"])

    def place(self, name: str) -> Path:
        path = self.clone.home / name[2:] if name.startswith("~/") else self.clone.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def file(self, what: str, text: str) -> None:
        self.place(what).write_text(text)

    def append(self, what: str, text: str) -> None:
        self.place(what).write_text(self.place(what).read_text() + text)

    def run(self, _: str, text: str) -> None:
        address = f"http://127.0.0.1:{self.received.port}/oncall"
        command = CARRIED.replace("{text}", text)
        self.output = self.clone.run("bash", "-c", command, timeout=560, ONCALL_WEBHOOK=address)

    def shows(self, _: str, text: str) -> None:
        check_shown(self.output, text)

    def notice(self, _: str, text: str) -> None:
        told = [body for _, _, body in self.received.got if body["notice"]["event"] == "rolled_back"]
        (body,) = told
        check_shown(f"{body['title']}\n{body['message']}", text)


@pytest.fixture
def clone(fresh_clone) -> Clone:
    """The use case of docs/own-documents.md as that page leaves it, without its verdict."""
    clone = emptied(fresh_clone)
    before = page_of("own-documents.md").partition("## The verdict")[0]
    Reader(clone, Received()).follow(before.replace("<!-- shows -->", ""))
    for tape in RECORDED:
        shutil.copy(tape, clone.folder / "pipelines/tapes")
    replaced(
        clone, "params.yaml", "    concurrency: 2\n", "    concurrency: 1\n"
    )  # each more starts a server
    commit(clone, "Questions about a bicycle rental")
    return clone


@pytest.fixture
def received():
    with http_receiver() as found:
        yield found


def test_every_block_of_the_page_is_a_step():
    assert len(BLOCK.findall(PAGE)) == PAGE.count("```") / 2 >= 25


@pytest.mark.drawn("pages from a folder to a verdict or a job", 1)
def test_a_job_goes_to_production_and_a_worse_version_comes_back_by_itself(clone, received):
    Reader(clone, received).follow(PAGE)
    assert clone.status() == "" and processes(clone) == []
    the_slots_have_one_output_each(clone)
    the_version_was_taken_back_and_told_once(clone, received)
    the_page_tells_the_story(clone)
    mine = (clone.home / "ada.pem").read_bytes()
    assert faults_of(clone.home / "rental-2", mine) == set()
    page = clone.home / "rental-2" / "version" / "job.yaml"
    page.write_bytes(page.read_bytes() + b"\n")
    assert "version/job.yaml" in faults_of(clone.home / "rental-2", mine)


def the_slots_have_one_output_each(clone):
    """Four mornings: @1 beside a shadow, @1 with a canary, @2, and @1 again after @2 was taken back."""
    told = [(f"{run.slot.at:%d}", run.role, run.version, run.outcome) for run in reversed(runs(clone))]
    assert sorted(told) == [
        ("08", "production", 1, "published"), ("08", "shadow", 2, "shadowed"),
        ("09", "canary", 2, "published"), ("09", "production", 1, "published"),
        ("10", "production", 2, "published"),
        ("11", "production", 0, "refused"), ("11", "production", 1, "published"),
        ("11", "production", 2, "rolled_back"),
    ]  # fmt: skip
    folders = sorted((clone.folder / "published/rental/all").iterdir())
    assert [folder.name[:8] for folder in folders] == ["20261208", "20261209", "20261210", "20261211"]
    manifests = [publishing.read(folder) for folder in folders]
    assert [item.version for item in manifests] == [1, 1, 2, 1]
    assert [item.counts["answered"] for item in manifests] == [2, 2, 1, 4]
    texts = [pl.read_parquet(folder / "answers.rental.parquet")["text"] for folder in folders]
    assert all(text.str.len_chars().min() > 0 for text in texts)


def the_version_was_taken_back_and_told_once(clone, received):
    ledger = open_ledger(clone.folder, SystemClock())
    ((version, reason),) = [(item.version, item.reason) for item in ledger.withdrawals("rental")]
    assert version == 2 and "unanswered_rate" in reason
    assert [body["notice"]["event"] for _, _, body in received.got] == ["rolled_back"]
    labels = registry.load(clone.folder, "job", "rental").labels
    assert "production" not in labels  # the last block of the page switched the job off


def the_page_tells_the_story(clone):
    page = (clone.folder / "reports/jobs.html").read_text()
    text = " ".join(re.sub(r"<[^>]+>", " ", page).split())
    told = (
        "production is version 1", "version 1 is approved for production", "shadow is version 2",
        "canary is version 2", "no version is canary", "production is version 2", "version 2 is withdrawn",
        "notice: rolled back",
    )  # fmt: skip
    assert [part for part in told if part not in text] == []
