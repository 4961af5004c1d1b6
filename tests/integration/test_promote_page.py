"""docs/promote-a-notebook.md, followed to the letter: a plain notebook becomes a promoted job.

The answers of the judge are recorded in `recorded/`; make soak asks the embedded model for each. It
answers the rows of the promotion and of the job in every run.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import nbformat
import polars as pl
import pytest
import sizes
from aiohttp import web
from clone_edits import emptied, next_command, row_of, state
from clones import ROOT, Clone
from documented_pages import check_shown
from endpoint import endpoint

from workbench.jobs import publishing

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

RECORDED = sorted(Path(__file__).with_name("recorded").glob("tickets*.jsonl"))
TAPES = "pipelines/tapes"
PAGE = (ROOT / "docs" / "promote-a-notebook.md").read_text(encoding="utf-8")
#: A comment that a reader does not see says what the block after it is for; the text says it to readers.
BLOCK = re.compile(
    r"^<!-- (?P<verb>file|cell|insert|run|shows)(?:: (?P<what>[^\n]*?)| (?P<how>[^\n]*?))? -->\n"
    r"```\w+\n(?P<text>.*?)^```$",
    re.DOTALL | re.MULTILINE,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A block of the page: what to do with it, with what, and its text."""

    verb: str
    what: str
    text: str


def steps() -> Iterator[Step]:
    for found in BLOCK.finditer(PAGE):
        yield Step(verb=found["verb"], what=found["what"] or found["how"] or "", text=found["text"])


class Reader:
    """Somebody who does what the page says, in a clone, and nothing else."""

    def __init__(self, clone: Clone, address: str) -> None:
        self.clone, self.address, self.output, self.card = clone, address, "", ""

    def follow(self, step: Step) -> None:
        getattr(self, step.verb)(step.what, step.text)

    def place(self, name: str) -> Path:
        path = self.clone.home / name[2:] if name.startswith("~/") else self.clone.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def file(self, what: str, text: str) -> None:
        self.place(what).write_text(text)

    def cell(self, what: str, text: str) -> None:
        name, _, tag = what.partition(", tagged ")
        path = self.place(name)
        notebook = nbformat.read(path, 4) if path.exists() else nbformat.v4.new_notebook()
        tags = {"tags": [tag]} if tag else {}
        notebook.cells.append(nbformat.v4.new_code_cell(text.rstrip("\n"), metadata=tags))
        nbformat.write(notebook, path)

    def insert(self, what: str, text: str) -> None:
        name, _, line = what.partition(", below ")
        before, found, after = self.place(name).read_text().partition(f"\n{line}\n")
        assert found, what
        self.place(name).write_text(before + found + text + after)

    def run(self, what: str, text: str) -> None:
        asked = {"with an endpoint and a key": {"OPENAI_BASE_URL": self.address, "OPENAI_API_KEY": "k-123"}}
        given = asked[what] if what else {}
        if "make repro" in text and not sizes.SOAK:
            for tape in RECORDED:
                shutil.copy(tape, self.clone.folder / TAPES)
        before = state(self.clone) if "--dry-run" in text else {}
        self.output = self.clone.run("bash", "-euc", text, network=bool(given), **given)
        if before:
            self.card = self.output
            assert state(self.clone) == before, "a dry run writes nothing"

    def shows(self, what: str, text: str) -> None:
        assert not what
        check_shown(self.output, text)


def check_card(card: str) -> None:
    """The card of the dry run says what would be frozen, and what to type next."""
    assert row_of(card, "prompt") == ["prompt", "reply@1"]
    assert row_of(card, "memory") == ["memory", "shop@1"]
    assert row_of(card, "model") == ["model", "smollm2-135m@1"]
    assert row_of(card, "schedule")[1:] == ["0", "6", "*", "*", "1-5", "UTC"]
    assert "cost_usd_per_case" in card and "accuracy" in card
    assert "freezes memories/shop/1.yaml" in card
    assert next_command(card) == "workbench promote job/tickets --to production"


async def answered(request: web.Request) -> web.Response:
    assert request.headers["Authorization"] == "Bearer k-123"
    asked = await request.json()
    message = {"role": "assistant", "content": asked["messages"][-1]["content"].splitlines()[-2]}
    choice = {"index": 0, "finish_reason": "stop", "message": message}
    return web.json_response(
        {"id": "c", "object": "chat.completion", "created": 0, "model": asked["model"], "choices": [choice]}
    )


@pytest.fixture
def clone(fresh_clone) -> Clone:
    return emptied(fresh_clone)


def test_every_block_of_the_page_is_a_step_and_every_file_is_named_to_whoever_reads_it():
    assert len(list(steps())) == PAGE.count("```") / 2 >= 20
    seen = re.sub("<!-- .* -->", "", BLOCK.sub("", PAGE))
    for step in steps():
        if step.verb in {"file", "cell", "insert"}:
            assert f"`{step.what.partition(',')[0].removeprefix('~/support/')}`" in seen, step.what


@pytest.mark.drawn("pages from a folder to a verdict or a job", 1)
def test_a_notebook_not_written_for_the_workbench_becomes_a_job_by_following_the_page(clone):
    with endpoint(answered) as address:
        reader = Reader(clone, address)
        for step in steps():
            reader.follow(step)
    check_card(reader.card)
    folder = clone.folder / "published/tickets/all/20261124T060000Z"
    manifest = publishing.read(folder)
    assert (manifest.job, manifest.version, manifest.counts["answered"]) == ("tickets", 1, 4)
    replies = pl.read_parquet(folder / "replies.quay.parquet")
    assert replies["id"].to_list() == ["t-101", "t-102", "t-103", "t-105"]
    assert replies["text"].str.len_chars().min() > 0
    assert clone.status() == ""
    assert "Running stage" not in clone.run("dvc", "repro", network=False)
