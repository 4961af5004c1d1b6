"""Whatever type a task promises: its output is published and told alike, or its row alone is broken."""

from __future__ import annotations

import datetime as dt
import decimal
import enum
import json
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, Literal

import polars as pl
import pytest
from pydantic import BaseModel

from workbench.errors import RefusedError
from workbench.experiments.batch import ATTEMPTS
from workbench.experiments.dataset import Question
from workbench.experiments.inputs import InputRow, Inputs
from workbench.experiments.task import Answer, task
from workbench.promotion.handed_over import _check_published


class Colour(enum.Enum):
    RED = "red"


class Ticket(BaseModel):
    label: str
    urgent: bool = False


@dataclass
class Part:
    name: str
    parts: tuple[str, ...] = ()
    score: float | None = None
    anything: Any = None


TODAY = dt.datetime(2026, 11, 29, 7, tzinfo=dt.timezone(dt.timedelta(hours=2)))
#: Promised type, the usual output, and the output of one row of four.
TYPES = {
    "text": (str, "a", "[b"),
    "empty text": (str, "", "{}"),
    "whole number for a real one": (float, 1, 2),
    "numbers": (int, 1, 2**63 - 1),
    "yes or no": (bool, True, False),
    "list": (list[str], ["a"], []),
    "tuple": (tuple[str, int], ("a", 1), ("b", 2)),
    "mapping": (dict[str, int], {"a": 1}, {"b": 2}),
    "mapping of mixed values": (dict, {"a": 1}, {"a": "1x"}),
    "optional": (str | None, "a", None),
    "choice": (Literal["a", "b"], "a", "b"),
    "day": (dt.date, dt.date(2026, 11, 29), dt.date(2027, 1, 1)),
    "instant": (dt.datetime, TODAY, TODAY.astimezone(dt.UTC)),
    "enum": (Colour, Colour.RED, Colour.RED),
    "model": (Ticket, Ticket(label="a"), Ticket(label="b", urgent=True)),
    "model of a mapping": (Ticket, {"label": "a"}, {"label": "b"}),
    "dataclass": (Part, Part(name="a"), Part(name="b", parts=("x", "y"), score=0.1)),
    "dataclass of mixed values": (Part, Part(name="a", anything=[1]), Part(name="b", anything={"c": None})),
    "answer": (Answer, Answer(text="a", sources=("p",)), Answer(text="b")),
    "anything": (Any, [1], {"a": [{"b": 1}, {"c": "2"}]}),
}
BROKEN = {
    "half a surrogate pair": (str, "a", "\ud800", "not_storable"),
    "half a surrogate pair in a field": (Answer, Answer(text="a"), Answer(text="\ud800"), "not_storable"),
    "not a number": (float, 1.0, float("nan"), "not_a_number"),
    "infinite in a list": (Any, [1.0], [float("inf")], "infinite"),
    "more than 64 bits": (int, 1, 10**30, "not_storable"),
    "set": (Any, 1, {1, 2}, "not_storable"),
    "decimal": (decimal.Decimal, decimal.Decimal(1), None, "InvalidOutputError"),
    "another type": (Literal["a", "b"], "a", "c", "InvalidOutputError"),
    "text for a list": (list[str], ["a"], "a", "InvalidOutputError"),
    "text for a model": (Ticket, {"label": "a"}, {"lable": "b"}, "InvalidOutputError"),
}  # fmt: skip


def mapped(gives, usual, odd, folder):
    def f(ws, case: Question):
        return odd if case.id == "c1" else usual

    f.__annotations__["return"], f.__annotations__["case"] = gives, Question
    rows = [
        InputRow(number=n + 1, columns={"id": f"c{n}", "tenant": "acme", "question": "q"}) for n in range(4)
    ]
    bind = lambda tenant: SimpleNamespace(tenant=tenant)  # noqa: E731
    batch = task(f).map(Inputs(name="i", rows=tuple(rows), tenants=("acme",), bind=bind))
    batch.hand_over(folder / "out", "answers")
    told = [json.loads(line) for line in (folder / ATTEMPTS).read_text().splitlines()]
    return batch, {line["case"]: {"output": None, **line} for line in told}


@pytest.mark.parametrize("kind", TYPES)
def test_every_promised_type_is_published_and_told_alike(kind, tmp_path):
    batch, told = mapped(*TYPES[kind], tmp_path)
    assert batch.counts()["answered"] == 4 and not [line for line in told.values() if "error" in line]
    _check_published(tmp_path, told, "n.ipynb")


@pytest.mark.parametrize("kind", BROKEN)
def test_an_output_that_is_none_breaks_its_own_row_alone(kind, tmp_path):
    gives, usual, odd, reason = BROKEN[kind]
    batch, told = mapped(gives, usual, odd, tmp_path)
    broken = [case for case, line in told.items() if "error" in line]
    assert "c1" in broken and told["c1"]["error"].startswith(f"{reason}: ")
    assert batch.counts()["answered"] == 4 - len(broken) and len(batch.broken) == len(broken)
    _check_published(tmp_path, told, "n.ipynb")


@pytest.mark.parametrize("kind", [kind for kind, (_, usual, odd) in TYPES.items() if usual != odd])
def test_another_answer_than_the_told_one_is_refused(kind, tmp_path):
    gives, usual, odd = TYPES[kind]
    batch, told = mapped(gives, usual, odd, tmp_path)
    frame = batch.answers
    usual_row = frame.filter(pl.col("id") == "c0").with_columns(id=pl.lit("c1"))
    for path in (tmp_path / "out").glob("answers.*.parquet"):
        pl.concat([frame.filter(pl.col("id") != "c1"), usual_row]).write_parquet(path)
    with pytest.raises(RefusedError, match="published another answer to case c1"):
        _check_published(tmp_path, told, "n.ipynb")
