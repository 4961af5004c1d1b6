"""docs/judge.md: its blocks are read as they stand, and the package has the errors and reasons it names."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

import workbench as wb
from workbench import files
from workbench.config import DatasetFile
from workbench.experiments.dataset import Dataset
from workbench.experiments.gate_spec import GateSpec, check_spec
from workbench.experiments.scorer_spec import ScorerSet
from workbench.experiments.scorers import Outcome, judged_output

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/judge.md").read_text(encoding="utf-8")
SOURCE = "\n".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "workbench").rglob("*.py")))


def blocks(kind: str) -> list[str]:
    return re.findall(rf"^```{kind}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


def block(kind: str, word: str) -> str:
    (found,) = [text for text in blocks(kind) if word in text]
    return found


def first_column(section: str) -> list[str]:
    _, _, rest = PAGE.partition(f"## {section}\n")
    table = [line.split("|")[1] for line in rest.partition("\n## ")[0].splitlines() if line.startswith("|")]
    return table[2:]


def quoted(cell: str) -> list[str]:
    return [text.strip() for _, text in re.findall(r"(`+)(.+?)\1(?!`)", cell)]


@pytest.fixture
def repository(tmp_path):
    """The files of the page, where the page says that they lie."""
    for name, text in (
        ("pipelines/scorers/brief.py", block("python", "MOST_WORDS")),
        (
            "pipelines/scorers/topic.py",
            block("python", "def score(outcome: wb.Outcome) -> float:\n    return"),
        ),
        ("data/handbook/messages.jsonl", block("json", "m-1")),
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    return tmp_path


def stated(word: str) -> dict[str, Any]:
    return files.parse_yaml(block("yaml", word), where="page")


@pytest.mark.parametrize(("word", "cases"), [("questions.jsonl", 188), ("messages.jsonl", 4)])
def test_each_line_of_a_gate_of_the_page_has_its_scorer_and_can_pass(repository, word, cases):
    params = stated(word)
    scorers = ScorerSet.parse(params["scorers"], root=repository, where="page")
    spec = GateSpec.of_phase(params["gates"], "mvp", where="page")
    assert {rule.metric for rule in spec.rules} - {"cases", "unscored_rate"} <= {
        scorer.name for scorer in scorers.scorers
    }
    assert not check_spec(spec, cases)


def test_the_example_with_other_columns_fits_together(repository):
    params = stated("messages.jsonl")
    columns = files.parse(DatasetFile, params["dataset"], where="page")
    cases = Dataset.of_file(
        repository, columns.file, inputs=columns.inputs, expected=columns.expected, where="page"
    )
    names: dict[str, Any] = {"__name__": "page"}
    text = block("python", "class Message").replace('wb.connect("routing")', "None")
    exec(compile(text, "page", "exec", dont_inherit=True), names)
    (scorer,) = ScorerSet.parse(params["scorers"], root=repository, where="page").scorers
    assert len(cases) == 4
    for case in cases:
        assert names["route"].read(case) == names["Message"](**case.inputs)
        for topic, score in ((case.expected["topic"], 1), ("other", 0)):
            output = judged_output({"topic": topic})
            assert scorer(Outcome(case=case, output=output, records=[], passages=[])) == score


def test_the_scorer_of_the_page_is_the_one_that_ships(repository):
    def judged(root: Path) -> list[float | None]:
        spec = {"brief": "pipelines/scorers/brief.py"}
        (scorer,) = ScorerSet.parse(spec, root=root, where="page").scorers
        case = next(iter(Dataset.of_file(ROOT, "data/handbook/questions.jsonl")))
        answers = [wb.Answer(text="word " * n) for n in (20, 21)]
        return [scorer(Outcome(case=case, output=a, records=[], passages=[])) for a in answers]

    assert judged(repository) == judged(ROOT) == [1, 0]


@pytest.mark.parametrize("text", blocks("python"))
def test_each_block_of_python_compiles(text):
    assert compile(text, "page", "exec")


def test_each_error_of_the_page_is_one_of_the_package():
    named = [text for cell in first_column("Errors of the judge") for text in quoted(cell)]
    named = [text for text in named if text not in {"gate", "promote", "NameError"}]
    assert len(named) > 15
    assert not [text for text in named if text not in SOURCE]


def test_each_reason_of_the_page_is_one_of_the_package():
    named = [text for cell in first_column("Unscored cases") for text in quoted(cell)]
    named = [text for text in named if not text.endswith("Error")]
    assert len(named) > 14
    assert not [text for text in named if not re.search(rf"[\"']{text}[\"':]", SOURCE)]


@pytest.mark.parametrize("name", sorted(set(re.findall(r"\]\(((?:design/)?[a-z-]+\.md)", PAGE))))
def test_each_page_that_the_page_names_exists(name):
    assert (ROOT / "docs" / name).is_file()
