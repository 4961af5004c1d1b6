from __future__ import annotations

import json

import pytest

from workbench.errors import ConfigError
from workbench.experiments.dataset import Dataset

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
