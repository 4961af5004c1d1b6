from __future__ import annotations

import datetime as dt
import decimal
from dataclasses import dataclass, field

import orjson
import polars as pl
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from workbench.errors import ConfigError, NotFoundError
from workbench.experiments.dataset import Question
from workbench.experiments.inputs import InputRow, Inputs, read

#: Signs that Unicode counts as the end of a line and JSON does not.
BREAKS = "\x0b\x0c\x1c\x85\u2028\u2029"
TEXTS = st.text(st.characters(codec="utf-8") | st.sampled_from(BREAKS))


def inputs(*columns, tenants=("acme", "globex"), **given):
    rows = tuple(InputRow(number=n, columns=one) for n, one in enumerate(columns, start=1))
    return Inputs(name="rows.jsonl", rows=rows, tenants=tenants, bind=lambda tenant: tenant, **given)


def row(identity="a", tenant="acme", question="When?", **more):
    found = {"id": identity, "tenant": tenant, "question": question, **more}
    return {name: value for name, value in found.items() if value is not ...}


def fitted(*columns, takes=Question, **given):
    """The values that fit, and of the rows set aside the number and the reason."""
    good, broken = inputs(*columns, **given).fitted(takes, task="answer")
    return [value for _, value in good], {one.row.number: one.reason for one in broken}


def jsonl(path, *lines):
    path.write_bytes(b"\n".join(line if isinstance(line, bytes) else orjson.dumps(line) for line in lines))
    return path


# -- reading


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_rows_are_read_in_order_and_counted_from_one(tmp_path, suffix):
    path = tmp_path / f"rows{suffix}"
    rows = [row("b"), row("a", question="Why?")]
    jsonl(path, *rows) if suffix == ".jsonl" else pl.DataFrame(rows).write_parquet(path)
    found = read(path)
    assert [one.columns for one in found] == rows and [one.number for one in found] == [1, 2]
    assert [one.id for one in found] == ["b", "a"] and not any(one.fault for one in found)


@example([f"a{BREAKS}b"])
@given(st.lists(TEXTS, min_size=1, max_size=5))
def test_a_text_is_read_as_it_stands_whatever_signs_it_holds(tmp_path_factory, texts):
    path = tmp_path_factory.mktemp("rows") / "rows.jsonl"
    jsonl(path, *[row(question=text) for text in texts])
    assert [one.columns["question"] for one in read(path)] == texts


def test_a_line_that_is_no_object_is_a_row_at_fault_and_the_others_are_read(tmp_path):
    path = jsonl(tmp_path / "r.jsonl", row(), b"", b'{"id": "b"', b"[1]", b'"x"', b"  ", row("c"), b"nan")
    rows = read(path)
    assert [(one.number, one.fault.partition(":")[0]) for one in rows] == [
        (1, ""), (2, "not JSON"), (3, "not a JSON object"), (4, "not a JSON object"), (5, ""),
        (6, "not JSON"),
    ]  # fmt: skip
    assert [one.text for one in rows if one.fault] == ['{"id": "b"', "[1]", '"x"', "nan"]


def test_a_row_with_a_number_that_64_bits_cannot_hold_is_at_fault_and_keeps_its_text(tmp_path):
    line = b'{"id": "b", "tenant": "acme", "question": "q", "account": 123456789012345678901234567890}'
    first, second = read(jsonl(tmp_path / "r.jsonl", row(), line))
    assert not first.fault and second.fault.startswith("account: integer exceeds 64")
    assert "123456789" not in second.fault and second.text == line.decode()


@dataclass(frozen=True, kw_only=True)
class Priced:
    id: str
    price: decimal.Decimal


@pytest.mark.parametrize(
    "price",
    ["1.10", "0", "-3.5", "1E+3", "0.1", "12345678901234567890.12", "1.00", "7", "0.000001", "-0.01"],
)
def test_a_decimal_column_is_a_decimal_to_its_last_digit(price):
    value = decimal.Decimal(price)
    rows = (InputRow(number=1, columns={"id": "a", "tenant": "acme", "price": value}),)
    good, broken = Inputs(name="r", rows=rows, tenants=("acme",), bind=str).fitted(Priced, task="t")
    assert not broken and (good[0][1].price, str(good[0][1].price)) == (value, price)


def test_lines_that_end_as_on_windows_are_read(tmp_path):
    path = tmp_path / "r.jsonl"
    path.write_bytes(b'{"id":"a"}\r\n\r\n{"id":"b"}\r\n')
    assert [one.id for one in read(path)] == ["a", "b"]


@pytest.mark.parametrize(
    ("name", "data", "kind", "said"),
    [
        ("r.csv", b"id\na\n", ConfigError, r"inputs are \.parquet or \.jsonl files"),
        ("r", b"", ConfigError, r"inputs are \.parquet or \.jsonl files"),
        ("r.jsonl", b"", ConfigError, "has no rows"),
        ("r.jsonl", b"\n \n", ConfigError, "has no rows"),
        ("r.jsonl", b'{"id": "\xff"}', ConfigError, "is not UTF-8"),
        ("r.jsonl", None, NotFoundError, "there is no file"),
        ("r.parquet", None, NotFoundError, "there is no file"),
        ("r.parquet", b"", ConfigError, "is not a complete Parquet file"),
        ("r.parquet", b"PAR1" + bytes(90) + b"PAR1", ConfigError, "is not a complete Parquet file"),
        ("r.parquet", b'{"id": "a"}', ConfigError, "is not a complete Parquet file"),
    ],
)
def test_a_file_that_holds_no_rows_is_one_clear_error(tmp_path, name, data, kind, said):
    if data is not None:
        (tmp_path / name).write_bytes(data)
    with pytest.raises(kind, match=said) as caught:
        read(tmp_path / name)
    assert caught.value.hint and "\n" not in caught.value.message


def test_a_parquet_file_that_is_cut_off_or_has_no_rows_is_refused(tmp_path):
    path = tmp_path / "r.parquet"
    pl.DataFrame([row()]).write_parquet(path)
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(ConfigError, match="is not a complete Parquet file"):
        read(path)
    pl.DataFrame([row()]).clear().write_parquet(path)
    with pytest.raises(ConfigError, match="has no rows"):
        read(path)


def test_of_one_tenant_the_rows_of_others_are_left_out_and_keep_their_numbers(tmp_path):
    path = jsonl(tmp_path / "r.jsonl", row("a"), row("b", "globex"), row("c", ...), row("d", 7), b"torn")
    assert [one.number for one in read(path, tenant="globex")] == [2, 3, 4, 5]
    with pytest.raises(ConfigError, match="has no rows of tenant 'python'"):
        read(jsonl(path, row("a")), tenant="python")


# -- fitting


def test_a_row_that_fits_is_given_as_the_tasks_type_without_what_it_does_not_take():
    values, broken = fitted(row(more={"deep": [1]}, synthetic=True), row("b", "globex"))
    assert values == [
        Question(id="a", tenant="acme", question="When?"),
        Question(id="b", tenant="globex", question="When?"),
    ]
    assert broken == {}


@pytest.mark.parametrize(
    ("column", "value", "said"),
    [
        ("id", ..., "'id' is missing or not text"),
        ("id", "  ", "'id' is missing or not text"),
        ("id", 7, "'id' is missing or not text"),
        ("tenant", ..., "'tenant' is missing or not a tenant of this use case"),
        ("tenant", "initech", "'tenant' is missing or not a tenant of this use case"),
        ("tenant", 7, "'tenant' is missing or not a tenant of this use case"),
        ("question", None, "missing key 'question'"),
        ("question", 7, "question: input should be a valid string"),
        ("question", ["When?"], "question: input should be a valid string"),
        ("question", decimal.Decimal(1), "question: a decimal is no text"),
        ("question", b"When?", "question: type is not JSON: bytes"),
        ("question", 2**70, "question: integer exceeds 64-bit range"),
    ],
)
def test_a_row_that_does_not_fit_is_set_aside_with_a_reason_and_the_others_stay(column, value, said):
    values, broken = fitted(row("z"), row(**{column: value}))
    assert [value.id for value in values] == ["z"] and broken == {2: said}


def test_a_reason_never_repeats_what_the_row_holds():
    _, broken = fitted(row("z"), row("my secret", question=["my secret"]), row("b", tenant="my secret"))
    assert len(broken) == 2 and "secret" not in str(broken)


def test_of_two_rows_with_one_id_the_first_that_fits_counts():
    values, broken = fitted(row("a", question=7), row("a"), row("a", question="Why?"), row("a", "globex"))
    assert [value.question for value in values] == ["When?"]
    assert broken[3] == broken[4] == "'id' is the id of an earlier row" and 1 in broken


def test_where_there_is_one_tenant_a_row_need_not_name_it():
    values, broken = fitted(row(tenant=...), row("b", "globex"), row("c", None), tenants=("acme",))
    assert [(value.id, value.tenant) for value in values] == [("a", "acme"), ("c", "acme")]
    assert broken == {2: "'tenant' is missing or not a tenant of this use case"}
    bound = inputs(row(tenant=...), tenants=("acme",))
    assert bound.workspace(bound.rows[0]) == "acme"


def test_a_column_that_no_row_has_is_named_with_the_nearest():
    with pytest.raises(
        ConfigError, match=r"rows\.jsonl has no column 'question' \(nearest: 'questoin'"
    ) as caught:
        fitted(row(question=..., questoin="When?"), row("b", question=..., questoin="Why?"))
    assert caught.value.hint == "the task needs the columns id, question"
    assert fitted(row(question=...), row("b"))[1] == {1: "missing key 'question'"}, "one row has it"


def test_rows_none_of_which_could_be_read_are_broken_rows_and_no_missing_column():
    rows = (InputRow(number=1, columns={}, fault="not JSON"),)
    made = Inputs(name="r", rows=rows, tenants=("acme",), bind=str)
    good, broken = made.fitted(Question, task="answer")
    assert not good and [one.reason for one in broken] == ["not JSON"]
    assert inputs().fitted(Question, task="answer") == ([], []) and len(inputs()) == 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Ticket:
    id: str
    text: str
    language: str = "en"
    tags: list[str] = field(default_factory=list)
    day: str | None = None


def test_what_the_tasks_type_has_a_default_for_may_be_missing_throughout_or_null():
    values, broken = fitted(row(text="Help"), row("b", text="Hilfe", language="de", tags=None), takes=Ticket)
    assert values == [Ticket(id="a", text="Help"), Ticket(id="b", text="Hilfe", language="de")]
    assert broken == {}


def test_a_day_of_parquet_is_a_text(tmp_path):
    path = tmp_path / "r.parquet"
    rows = [row(text="Help", day=dt.date(2026, 11, 24))]
    pl.DataFrame(rows).write_parquet(path)
    made = Inputs(name="r", rows=read(path), tenants=("acme",), bind=str)
    ((_, value),), broken = made.fitted(Ticket, task="t")
    assert value.day == "2026-11-24" and not broken


def test_a_task_that_takes_no_dataclass_is_refused():
    with pytest.raises(ConfigError, match=r"task answer: .* not a dataclass"):
        fitted(row(), takes=dict)


@given(
    st.lists(
        st.dictionaries(
            st.sampled_from(["id", "tenant", "question", "other"]),
            st.none() | st.booleans() | st.integers() | st.sampled_from(["a", "b", "acme", "globex"]),
        ),
        max_size=8,
    )
)
def test_every_row_is_either_given_once_or_set_aside_once_and_ids_are_unique(columns):
    columns = [row("whole"), *columns]
    good, broken = inputs(*columns).fitted(Question, task="answer")
    numbers = [one.number for one, _ in good] + [one.row.number for one in broken]
    assert sorted(numbers) == list(range(1, len(columns) + 1))
    ids = [value.id for _, value in good]
    assert len(set(ids)) == len(ids) and all(one.reason and one.kind == "input" for one in broken)
