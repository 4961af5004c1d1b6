from __future__ import annotations

import io
import json
import os
import string

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench.errors import ConfigError
from workbench.experiments.dataset import PROVENANCE, Case, Dataset

ROW = {"id": "a", "tenant": "acme", "question": "Why?", "answers": ["so"], "page": "p"}


def written(path, *rows):
    path.write_text("".join(f"{row if isinstance(row, str) else json.dumps(row)}\n" for row in rows))
    return path


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({**ROW, "id": "a"}, "two cases have the id 'a'"),
        ("{", "q.jsonl:2: not JSON"),
        ("[1]", "q.jsonl:2: not a JSON object"),
        ({**ROW, "id": "b", "qestion": "x"}, r"q.jsonl:2: unknown key 'qestion' \(nearest: 'question'"),
        ({k: v for k, v in ROW.items() if k != "page"}, "q.jsonl:2: 'page' is missing or empty"),
        ({**ROW, "id": "b", "answers": []}, "q.jsonl:2: 'answers' is missing or empty"),
        ({**ROW, "id": 7}, "q.jsonl:2: 'id' must be text"),
        ({**ROW, "id": "b", "synthetic": True}, "q.jsonl:2: a synthetic row must name its author"),
    ],
)
def test_a_wrong_row_is_named_by_file_and_line(tmp_path, row, said):
    with pytest.raises(ConfigError, match=said):
        Dataset.from_file(written(tmp_path / "q.jsonl", ROW, row))


def test_the_digest_is_of_what_tasks_and_scorers_see(tmp_path):
    b = {**ROW, "id": "b", "tenant": "globex"}
    one = Dataset.from_file(written(tmp_path / "one.jsonl", ROW, b))
    two = Dataset.from_file(written(tmp_path / "two.jsonl", b, {**ROW, "synthetic": True, "author": "me"}))
    assert one.digest == two.digest != one.of_tenants("acme").digest
    assert one.tenants == ("acme", "globex") and [c.id for c in two] == ["a", "b"]
    with pytest.raises(ConfigError, match="no cases of tenant 'acne'"):
        one.of_tenants("acne")


def test_a_frame_and_parquet_give_the_same_cases_and_the_same_bytes(tmp_path):
    made = Dataset.from_file(written(tmp_path / "q.jsonl", *({**ROW, "id": f"{n}"} for n in range(20))))
    (tmp_path / "q.parquet").write_bytes(made.to_parquet())
    again = Dataset.from_file(tmp_path / "q.parquet")
    assert again.cases == made.cases and again.to_parquet() == made.to_parquet()
    assert Dataset.from_frame(made.to_frame()).digest == made.digest


def test_a_sample_is_the_same_for_the_same_seed(tmp_path):
    made = Dataset.from_file(written(tmp_path / "q.jsonl", *({**ROW, "id": f"{n:02}"} for n in range(50))))
    drawn = [[c.id for c in made.sample(5, seed=seed)] for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2] and len(set(drawn[0])) == 5
    assert len(made.sample(99, seed=1)) == 50


@pytest.mark.parametrize(
    "number",
    [
        "18446744073709551616",
        "-9223372036854775809",
        "1" * 30,
        "9" * 5_000,
        "-" + "8" * 40,
        "0.1234567890123456789",
        "123456789.123456789",
        "1e400",
        "-1e400",
        "1e-400",
        "1.00000000000000000001",
        "9007199254740993.0",
        "NaN",
        "Infinity",
        "-Infinity",
        "1e999999999",
        "3.14159265358979323846",
    ],
    ids=lambda text: text[:24],
)
@pytest.mark.parametrize("form", ["{}", "[1, {}]", '{{"deep": [{{"er": {}}}]}}'])
def test_a_number_that_64_bits_cannot_hold_is_one_error_with_file_line_and_field(tmp_path, number, form):
    line = json.dumps({**ROW, "id": "b"})[:-1] + f', "seed": {form.format(number)}}}'
    with pytest.raises(ConfigError, match=r"q\.jsonl:2: seed") as caught:
        Dataset.from_file(written(tmp_path / "q.jsonl", ROW, line))
    assert len(caught.value.message) < 300


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("18446744073709551615", 2**64 - 1),
        ("-9223372036854775808", -(2**63)),
        ("9007199254740993", 2**53 + 1),
        ("0.1", 0.1),
        ("0.10", 0.1),
        ("1E5", 1e5),
        ("1.5e-7", 1.5e-7),
        ("5e-324", 5e-324),
        ("1.7976931348623157e308", 1.7976931348623157e308),
        ("123456789.12345678", 123456789.12345678),
        ("0.30000000000000004", 0.30000000000000004),
        ("100000000000000000000.0", 1e20),
        ("-0.0", 0.0),
        ('"18446744073709551616"', "18446744073709551616"),
        ('"1e400"', "1e400"),
    ],
)
def test_an_exact_number_or_text_is_read_to_its_last_digit(tmp_path, text, value):
    line = json.dumps({**ROW, "id": "b"})[:-1] + f', "seed": {text}}}'
    made = Dataset.from_file(written(tmp_path / "q.jsonl", ROW, line))
    assert made.cases[1].provenance["seed"] == value


@pytest.mark.parametrize("depth", [500, 990, 1_010, 1_023, 5_000, 100_000])
def test_a_deep_row_is_one_error_at_any_depth(tmp_path, depth):
    line = json.dumps({**ROW, "id": "b"})[:-1] + f', "deep": {"[" * depth}1e400{"]" * depth}}}'
    with pytest.raises(ConfigError, match=r"q\.jsonl:2: "):
        Dataset.from_file(written(tmp_path / "q.jsonl", ROW, line))
    line = line.replace("1e400", "9" * 30)
    with pytest.raises(ConfigError, match=r"q\.jsonl:2: "):
        Dataset.from_file(written(tmp_path / "q.jsonl", ROW, line))


def of_file(root, file="data/q.jsonl", **columns):
    return Dataset.of_file(root, file, where="params.yaml: dataset", **columns)


def folder(tmp_path, *rows):
    (tmp_path / "data").mkdir(parents=True)
    written(tmp_path / "data/q.jsonl", *rows)
    return tmp_path


def test_a_stated_file_gives_the_cases_of_its_columns(tmp_path):
    root = folder(tmp_path, ROW)
    assert of_file(root) == of_file(root, "./data//q.jsonl") == Dataset.from_file(root / "data/q.jsonl")
    (root / "data/q.parquet").write_bytes(of_file(root).to_parquet())
    made = of_file(root, "data/q.parquet", inputs=["question", "page"], expected=["answers"])
    assert [(dict(c.inputs), dict(c.expected)) for c in made] == [
        ({"question": "Why?", "page": "p"}, {"answers": ["so"]})
    ]


@pytest.mark.parametrize(
    ("file", "said"),
    [
        ("../q.jsonl", "not a path inside the repository"),
        ("/etc/passwd.jsonl", "not a path inside the repository"),
        ("data/../../q.jsonl", "not a path inside the repository"),
        ("", "not a path inside the repository"),
        ("data/\0.jsonl", "not a path inside the repository"),
        (f"data/{'x' * 300}.jsonl", "not a path inside the repository"),
        ("data/q.csv", "neither a .jsonl nor a .parquet file"),
        ("data", "neither a .jsonl nor a .parquet file"),
        ("data/missing.jsonl", "there is no file"),
        ("data/missing.parquet", "there is no file"),
        ("data/empty.jsonl", "has no cases"),
        ("data/cut.parquet", "not a complete Parquet file"),
        ("data/out.jsonl", "link out of the repository"),
        ("data/loop.jsonl", "there is no file"),
        ("data/loop.parquet", "there is no file"),
        ("data/fifo.jsonl", "not a regular file"),
        ("data/fifo.parquet", "not a regular file"),
        ("data/folder.jsonl", "Is a directory"),
    ],
)
def test_a_stated_path_that_is_no_dataset_is_refused(tmp_path, file, said):
    root = folder(tmp_path / "repository", ROW)
    written(tmp_path / "q.jsonl", ROW)
    (root / "data/empty.jsonl").write_text("\n")
    (root / "data/cut.parquet").write_bytes(of_file(root).to_parquet()[:-9])
    (root / "data/out.jsonl").symlink_to(tmp_path / "q.jsonl")
    (root / "data/folder.jsonl").mkdir()
    for suffix in ("jsonl", "parquet"):
        (root / f"data/loop.{suffix}").symlink_to(f"loop.{suffix}")
        os.mkfifo(root / f"data/fifo.{suffix}")
    with pytest.raises(ConfigError, match=said) as raised:
        of_file(root, file)
    assert raised.value.hint and "prepare" not in raised.value.hint


def test_a_link_into_a_cache_of_dvc_is_a_dataset(tmp_path):
    root = folder(tmp_path / "repository", ROW)
    cached = tmp_path / "cache/files/md5/ab" / ("0" * 30)
    cached.parent.mkdir(parents=True)
    (root / "data/q.jsonl").rename(cached)
    (root / "data/q.jsonl").symlink_to(cached)
    assert len(of_file(root)) == 1


@pytest.mark.parametrize(
    ("inputs", "expected", "said"),
    [
        (["question", "page"], ["answers", "page"], "dataset.expected: the column 'page' is named twice"),
        (["question", "question"], ["answers"], "dataset.inputs: the column 'question' is named twice"),
        ([], ["answers"], "dataset.inputs is empty"),
        (["id"], ["answers"], "'id' cannot name a column"),
        (["question"], ["author"], "'author' cannot name a column"),
        (["question", ""], ["answers"], "'' cannot name a column"),
    ],
)
def test_columns_that_overlap_or_have_a_meaning_are_refused(tmp_path, inputs, expected, said):
    with pytest.raises(ConfigError, match=said):
        of_file(folder(tmp_path, ROW), inputs=inputs, expected=expected)


LETTERS = st.text(string.ascii_lowercase, min_size=1, max_size=5)
VALUES = {
    "texts": LETTERS,
    "numbers": st.integers(-(2**63), 2**63 - 1),
    "floats": st.floats(allow_nan=False, allow_infinity=False),
    "lists": st.lists(LETTERS, min_size=1, max_size=3),
}


@st.composite
def datasets(draw):
    """Cases whose inputs begin with `in`; expected values and provenance hold the word SECRET."""
    kinds = draw(st.dictionaries(LETTERS.map("in_{}".format), st.sampled_from(sorted(VALUES)), max_size=3))
    ids = draw(st.lists(LETTERS, min_size=1, max_size=5, unique=True))
    secret = LETTERS.map("SECRET{}".format)
    cases = [
        Case(
            id=case_id,
            tenant=draw(LETTERS),
            inputs={name: draw(VALUES[kind]) for name, kind in kinds.items()},
            expected=draw(st.dictionaries(secret, secret | st.lists(secret), max_size=2)),
            provenance=draw(st.dictionaries(st.sampled_from(PROVENANCE), secret, max_size=2)),
        )
        for case_id in ids
    ]
    return Dataset(name="made", cases=tuple(cases))


@given(datasets())
def test_the_file_of_inputs_holds_ids_tenants_and_inputs_exactly_and_nothing_that_is_expected(made):
    data = made.inputs_parquet()
    rows = pl.read_parquet(io.BytesIO(data)).to_dicts()
    assert rows == [{"id": case.id, "tenant": case.tenant, **case.inputs} for case in made]
    assert "SECRET" not in json.dumps(rows) and b"SECRET" not in data
    assert not set(PROVENANCE) & set(rows[0])
    assert data == made.inputs_parquet()


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (1, "1"), (1, 1.5), (True, 2), (2**63, 0.5), ([1], ["a"]), ([1], 1), ({"x": 1}, {"y": 1}), ({}, {}),
        ({"x": {}}, {"x": {}}), (object(), object()),
    ],
)  # fmt: skip
def test_inputs_that_parquet_would_change_are_an_error_without_their_value(one, other):
    cases = (Case(id=f"{n}", tenant="t", inputs={"x": x}, expected={}) for n, x in enumerate((one, other)))
    with pytest.raises(ConfigError, match=r"dataset made: .*Parquet") as raised:
        Dataset(name="made", cases=tuple(cases)).inputs_parquet()
    assert "one type" in raised.value.hint and "1.5" not in str(raised.value)


def test_a_dataset_without_cases_has_the_two_columns():
    assert Dataset(name="made", cases=()).input_rows().columns == ["id", "tenant"]


def test_a_dataset_with_a_number_that_json_cannot_hold_has_no_digest():
    def made(value):
        case = Case(id="a", tenant="t", inputs={"question": value}, expected={"answers": ["x"], "page": "p"})
        return Dataset(name="made", cases=(case,))

    assert len({made(value).digest for value in (None, 0.0, "null", "NaN", [None])}) == 5
    for value in (float("nan"), float("inf"), {"deep": [float("-inf")]}, 10**30, {1, 2}):
        with pytest.raises(ConfigError, match="dataset made, case 'a'"):
            _ = made(value).digest


def test_a_text_in_some_rows_and_a_list_in_others_is_named_with_what_to_write():
    page = ("refunds", [])
    rows = (
        {"id": f"c{n}", "tenant": "acme", "question": "q", "answers": ["a"], "page": page[n]} for n in (0, 1)
    )
    cases = Dataset.from_rows([(f"row {n}", row) for n, row in enumerate(rows)], name="mixed")
    with pytest.raises(ConfigError, match="dataset mixed: 'page' has values of several types") as raised:
        cases.to_parquet()
    assert '["travel"]' in raised.value.hint and "refunds" not in str(raised.value)
