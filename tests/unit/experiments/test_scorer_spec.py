from __future__ import annotations

import hashlib
import os
import re
import string
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import workbench as wb
from workbench import files
from workbench.config import DatasetFile
from workbench.errors import ConfigError, InvalidOutputError, WorkbenchError
from workbench.experiments import scorer_spec, scorers
from workbench.experiments.attempts import error_text
from workbench.experiments.dataset import Case, Dataset
from workbench.experiments.gate_spec import GateSpec
from workbench.experiments.scorer_spec import ScorerSet
from workbench.experiments.scorers import Outcome, judged_output
from workbench.types import Hit

ROOT = Path(__file__).resolve().parents[3]
FILE = "pipelines/scorers/polite.py"
POLITE = "def score(outcome):\n    return float('please' in outcome.text)\n"


def parsed(raw, root=ROOT):
    return ScorerSet.parse(raw, root=root, where="params.yaml: scorers")


def written(root, text=POLITE, file=FILE):
    path = root / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return root


def hit(text):
    return Hit(
        id="h", text=text, source="travel", title="", version=1, score=1.0, tenant="acme",
        as_of="2026-01-01", stale=False, digest="d", memory="m",
    )  # fmt: skip


def outcome(output, *, sources=("a", "travel"), tenant="acme"):
    case = Case(
        id="a", tenant="acme", inputs={},
        expected={"answers": ["46 euros"], "page": "travel", "accepted": ["47 euros"], "source": "a"},
    )  # fmt: skip
    records = [{"operation": "search", "hits": [{"source": s, "tenant": tenant} for s in sources]}]
    return Outcome(case=case, output=output, records=records, passages=[hit("46 euros a day")])


SEEN = [
    outcome(wb.Answer(text="46 euros")), outcome(wb.Answer(text="It is 47 euros.")),
    outcome("no", tenant="globex"), outcome("46 euros", sources=()), outcome(7),
]  # fmt: skip


@pytest.mark.parametrize(
    ("stated", "same"),
    [
        ("contains", wb.contains(name="x")),
        ("exact", wb.exact(name="x")),
        ("grounded", wb.grounded(name="x")),
        ("cross_tenant_hits", wb.cross_tenant_hits(name="x")),
        ({"contains": {"answers": "accepted"}}, wb.contains(name="x", answers="accepted")),
        ({"exact": {"answers": "accepted"}}, wb.exact(name="x", answers="accepted")),
        ({"recall_at": 1}, wb.recall_at(1)),
        ({"recall_at": {"k": 5, "page": "source"}}, wb.recall_at(5, page="source")),
        ({"ndcg_at": 5}, wb.ndcg_at(5)),
        ({"ndcg_at": {"k": 1, "page": "source"}}, wb.ndcg_at(1, page="source")),
    ],
)
def test_a_stated_built_in_scores_as_the_function_does(stated, same):
    (made,) = parsed({"x": stated}).scorers
    assert made.name == "x"
    assert [made(seen) for seen in SEEN] == [same(seen) for seen in SEEN]
    assert (made.check is None) == (same.check is None)


def test_the_default_is_what_the_notebooks_of_today_state():
    made = parsed(None)
    assert made.digest == parsed(scorer_spec.DEFAULT).digest
    today = [wb.contains(name="accuracy"), wb.recall_at(5), wb.grounded(), wb.cross_tenant_hits()]
    assert [s.name for s in made.scorers] == [s.name for s in today]
    for ours, theirs in zip(made.scorers, today, strict=True):
        assert [ours(seen) for seen in SEEN] == [theirs(seen) for seen in SEEN]


def test_the_identity_has_the_defaults_filled_in_and_the_digest_no_order():
    short = parsed({"accuracy": "contains", "recall": {"recall_at": 5}})
    long = parsed({
        "recall": {"recall_at": {"k": 5, "page": "page"}},
        "score.accuracy": {"contains": {"answers": "answers"}},
    })  # fmt: skip
    assert short.identity() == {
        "accuracy": {"contains": {"answers": "answers"}}, "recall": {"recall_at": {"k": 5, "page": "page"}},
    }  # fmt: skip
    assert short.digest == long.digest == files.digest(short.identity())


@given(
    st.lists(
        st.tuples(st.sampled_from(["contains", "exact"]), st.sampled_from(["answers", "accepted"])),
        min_size=2, max_size=2, unique=True,
    )
)  # fmt: skip
def test_two_scorers_that_differ_have_two_digests(pair):
    one, two = (parsed({"x": {kind: {"answers": column}}}) for kind, column in pair)
    assert one.digest != two.digest


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("contain", "'contain' states no scorer (nearest: 'contains'"),
        ("", "'' states no scorer (known: 'check_false_alarms'"),
        (5, "5 states no scorer"),
        (None, "None states no scorer"),
        (True, "True states no scorer"),
        (["contains"], "['contains'] states no scorer"),
        ({}, "{} states no scorer"),
        ({"contains": {}, "exact": {}}, "states no scorer"),
        ({5: {}}, "states no scorer"),
        ({"recal_at": 5}, "nearest: 'recall_at'"),
        ("x" * 1_000, "xxx…"),
        ("recall_at", "recall_at.k is missing"),
        ({"recall_at": {}}, "recall_at.k is missing"),
        ({"ndcg_at": {"page": "page"}}, "ndcg_at.k is missing"),
        ({"recall_at": None}, "k must be a whole number from 1 to 100, found None"),
        ({"recall_at": 0}, "from 1 to 100, found 0"),
        ({"recall_at": 101}, "found 101"),
        ({"recall_at": 5.0}, "found 5.0"),
        ({"recall_at": True}, "found True"),
        ({"recall_at": "5"}, "found '5'"),
        ({"recall_at": {"k": 5, "pages": "page"}}, "unknown key 'pages' (nearest: 'page'"),
        ({"recall_at": {"k": 5, "page": 7}}, "page must name a column of the dataset"),
        ({"contains": {"answers": ""}}, "answers must name a column"),
        ({"contains": {"answers": ["answers"]}}, "answers must name a column"),
        ({"contains": "answers"}, "contains takes a mapping of answers, found 'answers'"),
        ({"contains": None}, "contains takes a mapping of answers, found None"),
        ({"grounded": {"answers": "answers"}}, "grounded takes no options"),
        ({"grounded": 5}, "grounded takes no options"),
    ],
)  # fmt: skip
def test_another_form_is_one_error_with_the_place_the_value_and_an_example(value, said):
    with pytest.raises(ConfigError) as raised:
        parsed({"accuracy": value})
    assert raised.value.message.startswith("params.yaml: scorers.accuracy") and said in raised.value.message
    assert "for example" in raised.value.hint and len(str(raised.value)) < 500


@pytest.mark.parametrize("raw", [{}, [], "contains", 5, ["contains"]])
def test_the_key_is_a_mapping_with_one_scorer_or_more(raw):
    with pytest.raises(ConfigError, match="must be a mapping of names to scorers"):
        parsed(raw)


@pytest.mark.parametrize(
    "name",
    ["cases", "unscored_rate", "latency_p95_s", "latency_mean_s", "cost_usd_per_case", "score.cases",
     "confidence", "", "score.", "_x", "-x", "a b", "a.b", "größe", "a\n", "x" * 64, "../x", 5.5],
)  # fmt: skip
def test_a_name_that_no_gate_line_can_have_is_refused(name):
    with pytest.raises(ConfigError, match="scorers"):
        parsed({name: "contains"})


def test_two_names_of_one_metric_are_refused():
    with pytest.raises(ConfigError, match="two scorers have the name 'accuracy'"):
        parsed({"accuracy": "contains", "score.accuracy": "exact"})


@given(st.text(string.ascii_letters + string.digits + "_-", min_size=1, max_size=63))
def test_an_accepted_name_is_the_metric_of_a_gate_line(name):
    try:
        (made,) = parsed({name: "contains"}).scorers
    except ConfigError:
        assert name[0] in "_-" or name in {"cases", "confidence"}
    else:
        spec = GateSpec.parse({"confidence": 0.9, made.name: {"min": 0.5}}, where="gates")
        assert [rule.metric for rule in spec.rules] == [name]


def test_a_file_scores_and_its_identity_is_the_path_and_the_hash_of_its_bytes(tmp_path):
    made = parsed({"polite": "./pipelines//scorers/polite.py", "again": FILE}, written(tmp_path))
    polite, again = made.scorers
    assert (polite.name, again.name) == ("polite", "again")
    assert polite(outcome(wb.Answer(text="yes, please"))) == 1 and polite(outcome("no")) == 0
    source = {"file": FILE, "sha256": hashlib.sha256(POLITE.encode()).hexdigest()}
    assert made.identity() == {"polite": source, "again": source}
    changed = parsed({"polite": FILE, "again": FILE}, written(tmp_path, POLITE + "#\n"))
    assert changed.digest != made.digest


def test_a_file_is_executed_once_from_the_bytes_that_were_hashed(tmp_path):
    trace = "import pathlib\nwith pathlib.Path(__file__ + '.log').open('a') as log:\n    log.write('x')\n"
    root = written(tmp_path, trace + POLITE)
    made = parsed({"polite": FILE, "again": FILE}, root)
    (root / FILE).write_text("def score(outcome):\n    return 0\n")
    assert [s(outcome("please")) for s in made.scorers] == [1, 1]
    assert (root / f"{FILE}.log").read_text() == "x"


def test_a_file_is_a_module_of_its_own(tmp_path):
    text = (
        "from dataclasses import dataclass\n"
        "@dataclass\nclass Limit:\n    words: 'int' = 3\n"
        "def score(outcome):\n    return Limit().words\n"
        "kept: undefined_without_the_future = 1\n"
    )
    with pytest.raises(ConfigError, match=r"polite.py:7: the file raises NameError: name 'undefined_without"):
        parsed({"polite": FILE}, written(tmp_path, text))
    text = "\ufeff# -*- coding: latin-1 -*-\nfrom __future__ import annotations\n" + text
    (made,) = parsed({"polite": FILE}, written(tmp_path, text)).scorers
    assert made(outcome("x")) == 3


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("", 1, "no function score"),
        ("def scores(outcome):\n    return 1\n", 1, "no function score"),
        ("\n\nscore = 5\n", 3, "score is no function of one argument"),
        ("score = 1\ndef score():\n    return 1\n", 2, "score is no function of one argument"),
        ("def score(outcome, case):\n    return 1\n", 1, "score is no function"),
        ("def score(*, outcome):\n    return 1\n", 1, "score is no function"),
        ("async def score(outcome):\n    return 1\n", 1, "score is no function"),
        ("def score(outcome):\n    yield 1\n", 1, "score is no function"),
        ("def other():\n    score = 1\n\nfrom math import pi as score\n", 1, "score is no function"),
        ("x = 1\ndef score(outcome)\n    return 1\n", 2, "no Python: expected ':'"),
        ("x = 1\n\nraise KeyError('alice@acme.example')\n", 3, "raises KeyError"),
        ("def load():\n    return 1 / 0\n\nload()\n", 2, "raises ZeroDivisionError"),
        ("import sys\nsys.exit(0)\n", 2, "raises SystemExit"),
        ("\nimport no_such_module\n", 2, "ModuleNotFoundError: No module named 'no_such_module'"),
        ("\nfrom . import other\n", 2, "imports ., another file"),
        ("\ndef score(outcome):\n    import notebooks.shared\n", 3, "imports notebooks.shared, another file"),
        ("import other\n", 1, "imports other, another file"),
        ("from pipelines.scorers import other\n", 1, "imports pipelines.scorers, another file"),
        (b"x = 1\n# \xff\n", 2, "not UTF-8"),
        (b"x = 1\0\n", 1, "no Python"),
        (f"x = {'-' * 100_000}1\n", 1, "no Python"),
        (f"x = {'(' * 5_000}1\n", 1, "no Python"),
    ],
)
def test_an_invalid_file_is_one_error_with_its_line(tmp_path, text, line, said):
    (tmp_path / "notebooks").mkdir()
    written(tmp_path, "", "pipelines/scorers/other.py")
    with pytest.raises(ConfigError) as raised:
        parsed({"polite": FILE}, written(tmp_path, text))
    assert f"params.yaml: scorers.polite: {FILE}:{line}: " in raised.value.message
    assert said in raised.value.message and raised.value.hint and "alice" not in str(raised.value)


@pytest.mark.parametrize(
    "path",
    ["scorers/polite.py", "pipelines/polite.py", "/etc/hosts.py", "pipelines/scorers/../../x.py", "../x.py",
     "pipelines/scorers", "pipelines/scorers/", "pipelines/scorers/polite.txt",
     "pipelines/scorers/missing.py",
     "pipelines/scorers/polite.py/x.py", "pipelines/scorers/a\0.py", "pipelines/scorers/\ud800.py",
     f"pipelines/scorers/{'x' * 300}.py", "pipelines/scorers/" + "x/" * 500 + "x.py", "/", "//x.py",
     "pipelines/scorers/out.py", "pipelines/scorers/cached.py", "pipelines/scorers/loop.py",
     "pipelines/scorers/folder.py",
     "pipelines/scorers/fifo.py", "pipelines/scorers/large.py", "pipelines/scorers/elsewhere/polite.py"],
)  # fmt: skip
def test_a_path_that_is_no_small_regular_file_of_the_folder_is_refused(tmp_path, path):
    root = written(tmp_path / "repository")
    folder = root / "pipelines/scorers"
    written(tmp_path, POLITE, "outside/polite.py")
    (folder / "polite.txt").write_text(POLITE)
    (folder / "out.py").symlink_to(tmp_path / "outside/polite.py")
    written(
        tmp_path, POLITE, cached := f"cache/files/md5/ab/{'0' * 30}"
    )  # a cache of DVC holds data, not code
    (folder / "cached.py").symlink_to(tmp_path / cached)
    (folder / "loop.py").symlink_to("loop.py")
    (folder / "elsewhere").symlink_to(tmp_path / "outside")
    (folder / "folder.py").mkdir()
    os.mkfifo(folder / "fifo.py")
    (folder / "large.py").write_text(POLITE + "#" * 1_000_000)
    with pytest.raises(ConfigError, match="scorers") as raised:
        parsed({"polite": path}, root)
    assert raised.value.message.startswith("params.yaml: scorers.polite") and raised.value.hint


def test_a_folder_of_scorers_that_is_a_link_out_of_the_repository_is_refused(tmp_path):
    written(tmp_path / "outside")
    root = tmp_path / "repository"
    root.mkdir()
    (root / "pipelines").symlink_to(tmp_path / "outside/pipelines")
    with pytest.raises(ConfigError, match="link out of pipelines/scorers/"):
        parsed({"polite": FILE}, root)
    (tmp_path / "linked").symlink_to(tmp_path / "outside")  # a repository may itself be reached by a link
    assert len(parsed({"polite": FILE}, tmp_path / "linked").scorers) == 1


def test_a_missing_file_names_the_nearest_one(tmp_path):
    with pytest.raises(ConfigError, match=r"no file pipelines/scorers/polit.py \(nearest: '.*polite.py'"):
        parsed({"polite": "pipelines/scorers/polit.py"}, written(tmp_path))


@pytest.mark.parametrize(
    "fault",
    ["raise KeyError(outcome.text)", "return 1 / 0", "return outcome.output.missing", "raise SystemExit(1)"],
)  # fmt: skip
def test_an_error_of_a_file_makes_the_case_unscored_without_its_message(tmp_path, fault):
    root = written(tmp_path, f"def score(outcome):\n    {fault}\n")
    (made,) = parsed({"polite": FILE}, root).scorers
    with pytest.raises(InvalidOutputError, match=f"{FILE}:2 raised ") as raised:
        made(outcome("alice@acme.example"))
    assert raised.value.reason == "scorer_failed" and "alice" not in str(raised.value)
    assert error_text(raised.value).startswith(f"scorer_failed: {FILE}:2 raised ")


def test_an_error_of_the_workbench_passes_through_a_file(tmp_path):
    text = "import workbench as wb\ndef score(outcome):\n    return wb.contains(answers='none')(outcome)\n"
    (made,) = parsed({"polite": FILE}, written(tmp_path, text)).scorers
    with pytest.raises(ConfigError, match="case a: expected value 'none'"):
        made(outcome("x"))


@pytest.mark.parametrize("value", ["'1'", "[1]", "outcome", "10 ** 400"])
def test_a_value_that_is_no_number_is_refused_by_name(tmp_path, value):
    (made,) = parsed(
        {"polite": FILE}, written(tmp_path, f"def score(outcome):\n    return {value}\n")
    ).scorers
    with pytest.raises(WorkbenchError, match="scorer polite returned"):
        made(outcome("x"))


def test_the_shipped_scorer_counts_words():
    (brief,) = parsed({"brief": "pipelines/scorers/brief.py"}).scorers
    assert [brief(outcome(wb.Answer(text="word " * n))) for n in (1, 20, 21)] == [1, 1, 0]


def test_the_blocks_of_the_page_are_read_as_they_stand(tmp_path):
    page = (ROOT / "docs/params.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```(yaml|python)\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    stated = [files.parse_yaml(text, where="page") for kind, text in blocks if kind == "yaml"]
    short, long = (block["dataset"] for block in stated if "dataset" in block)
    assert len(Dataset.of_file(ROOT, short)) > 100
    assert files.parse(DatasetFile, long, where="page").inputs == ("subject", "body")
    default, polite = (block["scorers"] for block in stated if "scorers" in block)
    assert parsed(default).identity() == parsed(None).identity()
    (text,) = (text for kind, text in blocks if kind == "python")
    _, made = parsed(polite, written(tmp_path, text)).scorers
    assert [made(outcome(said)) for said in ("Please!", "no")] == [1, 0]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ticket:
    text: str
    items: tuple[str, ...]
    owner: wb.Answer


TICKET = Ticket(text="pay", items=("a", "b"), owner=wb.Answer(text="ops", sources=("p",)))


def test_a_scorer_reads_json_as_it_reads_the_dataclass():
    judged = judged_output(files.parse_json(files.canonical(TICKET).decode(), where="output"))

    def read(output):
        return (
            output.text,
            output.items,
            output.owner.text,
            output.owner.sources[0],
            len(output.owner.sources),
        )

    assert read(judged) == read(TICKET)
    assert judged["owner"]["text"] == "ops" and sorted(judged) == ["items", "owner", "text"]
    assert Outcome(case=None, output=judged).text == Outcome(case=None, output=TICKET).text == "pay"


def test_a_judged_object_is_read_only():
    judged = judged_output({"text": "x", "rows": [{"a": 1}], "_own": 2})
    for change in (
        lambda: setattr(judged, "text", "y"),
        lambda: setattr(judged, "_values", {}),
        lambda: delattr(judged, "text"),
    ):  # fmt: skip
        with pytest.raises(AttributeError, match="read-only"):
            change()
    with pytest.raises(TypeError):
        judged["text"] = "y"
    with pytest.raises(AttributeError):
        _ = judged.missing
    assert judged.rows[0].a == 1 and judged.text == "x" and judged["_own"] == 2
    assert judged == {"text": "x", "rows": ({"a": 1},), "_own": 2} and judged.get("none") is None


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=False)
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)


def plain(value):
    if isinstance(value, scorers.JudgedObject):
        return {key: plain(value[key]) for key in value}
    return [plain(item) for item in value] if isinstance(value, tuple) else value


@given(JSON)
def test_no_value_is_lost_or_changed(value):
    assert plain(judged_output(value)) == value
    if not isinstance(value, list | dict):
        assert judged_output(value) is value


@given(st.text())
def test_the_text_of_an_answer_is_the_same_in_the_notebook_and_in_the_judge(text):
    answer = wb.Answer(text=text, sources=("p",))
    forms = [answer, {"text": text, "sources": ["p"]}, judged_output({"text": text, "sources": ["p"]})]
    assert {Outcome(case=None, output=form).text for form in forms} == {text}


@given(st.none() | st.booleans() | st.integers() | st.floats() | st.text())
def test_the_text_of_a_scalar_is_the_same(value):
    assert Outcome(case=None, output=judged_output(value)).text == str(value)
