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
        ("[1]", "q.jsonl:2: expected an object"),
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
