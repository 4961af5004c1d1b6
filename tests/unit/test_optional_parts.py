"""A use case without memory, prompt, pages or accepted answers: what works, and what says what to write."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest
from made_evidence import an_evidence
from made_jobs import a_spec
from optional_use_cases import KINDS, plain_repository
from small_use_case import small_repository, write

import workbench as wb
from workbench import config, files, layout
from workbench.config import DatasetFile, Params, Pin
from workbench.diagnostics.check import check_all
from workbench.errors import ConfigError, NotFoundError
from workbench.experiments import scorer_spec
from workbench.experiments.dataset import Case
from workbench.experiments.scorer_spec import ScorerSet, fitting
from workbench.experiments.scorers import Outcome, exact, judged_output
from workbench.layout import Results
from workbench.memory.snapshot import open_snapshot
from workbench.pipeline import build, settings
from workbench.pipeline.report import pages
from workbench.pipeline.repro import check_named, make_tapes
from workbench.promotion import freezing
from workbench.promotion.diff import spec_rows
from workbench.workspace import connection
from workbench.workspace.use_case import check_data, pages_of, stated_dataset

ROOT = Path(__file__).resolve().parents[2]
URL = "http://127.0.0.1:9/v1"


def small(root: Path) -> config.UseCase:
    return config.load_params(root).use_cases["small"]


@pytest.fixture
def bare(tmp_path):
    """A use case without memory and prompt, in a repository that has one of each."""
    root = small_repository(tmp_path / "small")
    text = (root / "params.yaml").read_text()
    for line in ("    memory: {name: small, version: 1}\n", "    prompt: {name: brief, version: 1}\n"):
        assert line in text
        text = text.replace(line, "")
    dataset = '    dataset: {file: "data/small/questions.jsonl"}\n'
    (root / "params.yaml").write_text(text.replace("    gates:", f"{dataset}    gates:"))
    return root


@pytest.fixture
def ws(bare):
    with contextlib.closing(connection.connect("small", root=bare)) as made:
        yield made


def test_the_use_case_of_the_page_is_read_and_has_neither(tmp_path):
    page = (ROOT / "docs/params.md").read_text(encoding="utf-8")
    (text,) = re.findall(r"^```yaml\n(use_cases:\n.*?)^```", page, re.MULTILINE | re.DOTALL)
    (tmp_path / "params.yaml").write_text(text)
    case = config.load_params(tmp_path).use_cases["routing"]
    assert case.memory is case.prompt is None and case.columns["expected"] == ("label",)
    assert isinstance(files.parse(Params, files.parse_yaml(text, where="page"), where="page"), Params)


@pytest.mark.parametrize("kind", ["memory", "prompt"])
def test_a_bare_name_says_what_is_missing_and_a_stated_name_works(ws, kind):
    with pytest.raises(ConfigError, match=f"'small' states no {kind}") as caught:
        getattr(ws, kind)()
    assert f"{kind}: {{name: NAME, version: 1}}" in caught.value.hint
    assert "use_cases.small" in caught.value.hint and f'ws.{kind}("NAME")' in caught.value.hint
    name = {"memory": "small", "prompt": "brief"}[kind]
    assert getattr(ws, kind)(f"{name}@1") is not None and getattr(ws, kind)(name) is not None


def test_an_arm_may_name_what_the_use_case_does_not(ws):
    arm = ws.bind(settings={"memory": "small", "prompt": "brief@1"})
    assert str(arm.memory().spec) == "small@1" and arm.prompt().reference == "brief@1"
    draft = ws.prompt("brief").edit(system="Be brief.")
    assert ws.bind(settings={"prompt": draft}).prompt() is draft
    assert {"prompt", "memory_digest"} <= arm.describe().keys()
    assert ws.describe().keys() == {"model", "model_digest"}


def test_its_cases_are_its_dataset_and_its_runs_carry_the_gate(ws):
    assert [case.id for case in ws.cases()] == ["q1", "q2", "q3", "q4"]
    assert ws.experiment().gated_memory is None
    assert ws.cases("small").digest == ws.cases().digest, "a named memory has the questions of its spec"


def test_without_a_dataset_and_a_memory_there_are_no_cases(bare):
    case = dataclasses.replace(small(bare), dataset=None)
    with pytest.raises(ConfigError, match="no dataset, and there is no memory") as caught:
        stated_dataset(bare, case)
    assert "dataset: FILE" in caught.value.hint


# -- the checks of documents and cases -------------------------------------------------------------


def questions(root: Path, *rows: dict, expected: tuple[str, ...]) -> config.UseCase:
    """The small use case with these cases, which expect these columns."""
    lines = ({"id": f"q{n}", "tenant": "acme", "question": "How?", **row} for n, row in enumerate(rows))
    write(root, "data/small/mine.jsonl", "".join(json.dumps(line) + "\n" for line in lines))
    stated = DatasetFile(file="data/small/mine.jsonl", expected=expected)
    return dataclasses.replace(small(root), dataset=stated)


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"page": "taxi"}, ""),
        ({"page": "taxy"}, "no page 'taxy'"),
        ({"page": "taxi", "answers": ["30 days"]}, ""),
        ({"page": "taxi", "answers": ["31 days"]}, "contains none"),
        ({"answers": ["31 days"]}, ""),
        ({"label": "travel"}, ""),
        ({"page": "taxi", "label": "travel"}, ""),
        ({"page": "taxy", "label": "travel"}, "no page 'taxy'"),
        ({}, ""),
    ],
)
def test_a_case_is_compared_with_the_pages_by_what_it_states(tmp_path, row, said):
    root = small_repository(tmp_path / "small")
    case = questions(root, row, expected=tuple(row))
    if not said:
        cases, found = check_data(root, "small", case)
        assert (len(cases), len(found)) == (1, 2)
        return
    with pytest.raises(ConfigError, match=said):
        check_data(root, "small", case)


def test_without_a_memory_a_page_is_a_value_like_any_other(bare):
    cases, found = check_data(bare, "small", questions(bare, {"page": "elsewhere"}, expected=("page",)))
    assert len(cases) == 1 and found == pages_of(bare, "small", small(bare)) == []


def test_a_dataset_outside_of_the_tracked_folder_is_refused_without_a_memory_too(bare):
    case = dataclasses.replace(small(bare), data="data/other")
    with pytest.raises(ConfigError, match=r"outside of use_cases\.small\.data"):
        check_data(bare, "small", case)


# -- scorers -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("expected", "memory", "names"),
    [
        (("answers", "page"), True, ["accuracy", "recall_at_5", "grounded", "cross_tenant_hits"]),
        (("answers", "page"), False, ["accuracy"]),
        (("answers",), True, ["accuracy", "grounded", "cross_tenant_hits"]),
        (("label",), False, ["accuracy"]),
        (("amount", "due"), False, ["amount", "due"]),
        (("page",), False, []),
        ((), False, []),
        ((), True, ["grounded", "cross_tenant_hits"]),
    ],
)
def test_the_default_scorers_are_those_that_fit(expected, memory, names):
    assert list(fitting(expected=expected, memory=memory)) == names


def test_the_defaults_of_a_question_are_what_they_were_and_a_label_is_compared_exactly():
    assert fitting(expected=("answers", "page"), memory=True) == scorer_spec.DEFAULT
    assert fitting(expected=("label",), memory=False) == {"accuracy": {"exact": {"answers": "label"}}}


def test_a_use_case_that_expects_nothing_is_told_to_state_a_scorer(tmp_path):
    with pytest.raises(ConfigError, match="no default scorer") as caught:
        ScorerSet.parse(None, root=tmp_path, where="params.yaml: use_cases.x.scorers", default={})
    assert "pipelines/scorers/" in caught.value.hint and "use_cases.x.scorers" in caught.value.message


@dataclass(frozen=True)
class Route:
    label: str
    text: str = "something else"


@pytest.mark.parametrize(
    ("output", "score"),
    [
        ("billing", 1),
        ("Billing.", 1),
        ("billing, I think", 0),
        (wb.Answer(text="billing"), 1),
        ({"label": "billing"}, 1),
        (judged_output({"label": "Billing"}), 1),
        (judged_output({"label": "other", "text": "billing"}), 0),
        (Route(label="billing"), 1),
        (Route(label="other", text="billing"), 0),
        ({"label": None}, 0),
        ({"other": "billing"}, 0),
        (None, 0),
    ],
)
def test_a_label_equals_the_text_or_the_field_of_its_name(output, score):
    case = Case(id="a", tenant="acme", inputs={"text": "?"}, expected={"label": "billing"})
    assert exact(answers="label")(Outcome(case=case, output=output)) == score


@pytest.mark.parametrize(("value", "text"), [(12.5, "12.5"), (True, "true"), (7, "7")])
def test_a_field_that_is_no_text_is_compared_as_json(value, text):
    case = Case(id="a", tenant="acme", inputs={"text": "?"}, expected={"amount": text})
    assert exact(answers="amount")(Outcome(case=case, output={"amount": value})) == 1


def test_a_column_named_as_a_method_of_texts_is_no_field_of_a_text():
    case = Case(id="a", tenant="acme", inputs={"text": "?"}, expected={"title": "billing"})
    assert exact(answers="title")(Outcome(case=case, output="billing")) == 1


# -- the pipeline ---------------------------------------------------------------------------------


def assets(root: Path, stage: str, *, source: str = "", **changes) -> dict[str, str]:
    return settings.assets_of_stage(root, stage, dataclasses.replace(small(root), **changes), source)


def test_a_stage_depends_on_the_assets_that_are_pinned_and_for_notebooks_on_those_they_name(tmp_path):
    root = small_repository(tmp_path / "small")
    memory = {f"pipelines/memories/small/{name}" for name in ("1.yaml", "asset.yaml")}
    prompt = {f"pipelines/prompts/brief/{name}" for name in ("1.prompty", "asset.yaml")}
    assert assets(root, "remember").keys() == memory
    assert assets(root, "prepare").keys() == memory | prompt, "the cases are compared with its examples"
    assert assets(root, "judge").keys() == assets(root, "report").keys() == memory | prompt
    assert assets(root, "gate") == {}
    nothing = {"memory": None, "prompt": None}
    assert assets(root, "judge", **nothing) == {}
    named = [
        'ws.prompt("brief")',
        "ws.prompt('brief@1')",
        json.dumps('ws.prompt("brief")'),
        '"brief@production"',
    ]
    for source in named:
        assert assets(root, "judge", source=source, **nothing).keys() == prompt, source
    for source in ("ws.prompt(brief)", '"briefs"', '"in brief"'):
        assert assets(root, "judge", source=source, **nothing) == {}, source
    assert assets(root, "experiment", parameters={"which": "small"}, **nothing).keys() == memory
    assert assets(root, "remember", source='"brief" "small"', **nothing) == {}


def test_a_changed_byte_of_a_pinned_asset_changes_its_digest_and_another_asset_does_not(tmp_path):
    root = small_repository(tmp_path / "small")
    before = assets(root, "judge")
    write(root, "pipelines/prompts/brief/2.prompty", "a draft, which asset.yaml does not list")
    write(root, "pipelines/prompts/other/1.prompty", "other")
    assert assets(root, "judge") == before
    page = root / "pipelines/prompts/brief/asset.yaml"
    page.write_text(page.read_text().replace("reason: ", "reason:  "))
    changed = assets(root, "judge")
    assert {path for path in before if changed[path] != before[path]} == {page.relative_to(root).as_posix()}


def test_a_version_that_is_missing_is_named_by_the_stage_settings(tmp_path):
    root = small_repository(tmp_path / "small")
    with pytest.raises(NotFoundError, match="prompt 'brief' has no version 7"):
        assets(root, "judge", prompt=Pin(name="brief", version=7))


def test_the_stage_settings_creates_what_a_new_use_case_lacks_and_keeps_what_it_has(bare):
    write(bare, str(layout.tape_of("small")), "")
    kept = (bare / layout.tape_of("small")).stat().st_mtime_ns
    settings.write(bare, "small")
    assert (bare / layout.judge_tape_of("small")).read_bytes() == b""
    assert (bare / layout.tape_of("small")).stat().st_mtime_ns == kept
    assert (bare / "pipelines/scorers").is_dir()
    folder = bare / Results(use_case="small").settings
    remember = files.parse_json((folder / "remember.json").read_text(), where="remember.json")
    assert remember["memory"] is None and remember["assets"] == {}


def test_a_repository_without_prompts_gets_their_folder_from_repro_and_check_says_so(tmp_path):
    root = plain_repository(tmp_path / "plain", "classify", endpoint=URL)
    warned = {finding.what: finding.problem for finding in check_all(root).findings if finding.warning}
    assert {"pipelines/prompts", "pipelines/memories"} <= warned.keys()
    assert (
        "dvc repro alone stops" in warned["pipelines/prompts"] and "make repro" in warned["pipelines/prompts"]
    )
    assert "alone creates it" in warned[f"classify: {layout.judge_tape_of('classify')}"]
    params = config.load_params(root)
    check_named(root, params)
    make_tapes(root, params)
    settings.write(root, "classify")
    found = check_all(root)
    assert found.passed and "pipelines/prompts" not in {finding.what for finding in found.findings}
    (root / layout.judge_tape_of("classify")).unlink()
    shutil.rmtree(root / "pipelines/scorers")
    warned = {finding.what: finding.problem for finding in check_all(root).findings if finding.warning}
    for what in (f"classify: {layout.judge_tape_of('classify')}", "pipelines/scorers"):
        assert "alone stops without it" in warned[what]


def test_check_names_the_line_that_gives_a_moved_model_its_price(tmp_path):
    root = plain_repository(tmp_path / "plain", "classify", endpoint=URL)
    params = root / "params.yaml"
    text = params.read_text()
    line = "    price_per_million:\n      input_usd: 0\n"
    assert line in text
    params.write_text(text.replace(line, ""))
    (wrong,) = [found for found in check_all(root).findings if found.problem and not found.warning]
    assert "price of smollm2-135m@1" in wrong.what and "the job classify" in wrong.problem
    assert "price_per_million" in wrong.problem and "beside base_url" in wrong.problem


@pytest.mark.parametrize("kind", KINDS)
def test_check_passes_a_use_case_of_each_kind(tmp_path, kind):
    found = check_all(plain_repository(tmp_path / kind, kind, endpoint=URL))
    assert found.passed, str(found)


def test_check_names_the_use_case_that_expects_nothing_and_states_no_scorer(tmp_path):
    root = plain_repository(tmp_path / "plain", "write", endpoint=URL)
    text = (root / "params.yaml").read_text()
    stated = "    scorers:\n      polite: pipelines/scorers/polite.py\n"
    assert stated in text
    (root / "params.yaml").write_text(text.replace(stated, ""))
    found = check_all(root)
    assert not found.passed and "use_cases.write.scorers is missing" in str(found)


def test_a_use_case_without_memory_has_a_snapshot_that_opens_and_that_jobs_know(bare, tmp_path):
    build.build(bare, "small", small(bare), tmp_path / "out")
    with contextlib.closing(open_snapshot(tmp_path / "out")) as snapshot:
        assert (snapshot.name, snapshot.tenants()) == ("", [])
        assert snapshot.digest == freezing._EMPTY_SNAPSHOT
    build.build(bare, "small", small(bare), tmp_path / "out")  # it replaces its own


def test_the_card_of_a_promotion_says_none_for_what_a_version_does_not_have():
    with_all = a_spec()
    without = dataclasses.replace(with_all, pins={"model": "tiny@1"})
    rows = {what: (live, new) for what, live, new in spec_rows(with_all, without)}
    assert rows["prompt"] == ("answer@2", "none") and rows["memory"] == ("m@1", "none")
    assert rows["snapshot"] == ("m" * 12, "none")
    rows = {what: (live, new) for what, live, new in spec_rows(without, with_all)}
    assert rows["snapshot"] == ("none", "m" * 12) and rows["prompt"] == ("none", "answer@2")


# -- the page -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("absent", "said"),
    [
        ({"memory": None}, "params.yaml names no memory for this use case"),
        ({"prompt": None}, "params.yaml names no prompt for this use case"),
        ({"memory": None, "prompt": None}, "params.yaml names no memory and no prompt for this use case"),
    ],
)
def test_the_page_says_once_what_is_absent_and_has_no_table_of_it(absent, said):
    made = an_evidence()
    case = dataclasses.replace(made.use_case, **absent)
    for page in pages(dataclasses.replace(made, use_case=case)):
        text = page.decode()
        assert text.count(said) == 1
        assert ("passages" in text) == ("memory snapshot" in text) == ("memory" not in absent)
    assert all(b"names no" not in page for page in pages(made))


def test_each_row_of_a_table_of_the_page_has_as_many_cells_as_its_head():
    made = an_evidence()
    nothing = dataclasses.replace(made.use_case, memory=None, prompt=None)
    for evidence in (made, dataclasses.replace(made, use_case=nothing)):
        text = pages(evidence)[1].decode().replace("\\|", "")
        tables = re.findall(r"(?:^\|.*\|\n)+", text, re.MULTILINE)
        assert len(tables) > 5
        for table in tables:
            assert len({line.count("|") for line in table.splitlines()}) == 1, table
