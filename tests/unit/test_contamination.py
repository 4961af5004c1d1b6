"""Cases that stand in examples: exact, as a part and nearly, on sets whose answer is known."""

from __future__ import annotations

import dataclasses
import json
import random
import shutil
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_runs import a_run
from small_use_case import ROOT, small_repository

from workbench import config, layout, registry
from workbench.data import contamination
from workbench.data.contamination import Contamination, Example, find, of_turn
from workbench.diagnostics.check import check_all
from workbench.errors import ConfigError
from workbench.experiments.dataset import Case
from workbench.experiments.gate_spec import GateSpec, check_spec, check_tightens
from workbench.experiments.gates import judge
from workbench.experiments.matching import normalise
from workbench.pipeline import stages
from workbench.promotion.judgement import judged
from workbench.workspace.examples import contaminated
from workbench.workspace.use_case import check_data

TICKET = "My invoice of last month is wrong, please correct the amount and send it again today."


def a_case(text, *, name="c", tenant="acme", **more):
    return Case(id=name, tenant=tenant, inputs={"text": text, **more}, expected={})


def an_example(text, *, where="memory, t-1", tenant="acme"):
    return Example(where=where, text=text, tenant=tenant)


def similarity(text, example, **more):
    found = find([a_case(text)], [an_example(example, **more)]).cases
    return found[0].similarity if found else None


#: A case, an example, and their similarity; None is no contamination.
KNOWN = {
    "the same": (TICKET, TICKET, 1.0),
    "the same but for case, signs and spaces": (TICKET.upper().replace(",", " -- "), TICKET, 1.0),
    "a short text that is the same": ("Invoice wrong", "invoice wrong!", 1.0),
    "a part of a longer text": ("The invoice of May is wrong", f"{TICKET} The invoice of May is wrong", 1.0),
    "a short part of a longer text": ("is wrong", TICKET, None),
    "a part of a word": ("he invoice of May is wron", "The invoice of May is wrong", None),
    "one word of sixteen at the end": (TICKET, TICKET.replace("today", "tomorrow"), 13 / 15),
    "one word of sixteen in the middle": (TICKET, TICKET.replace("please", "kindly"), 11 / 17),
    "the same words in another order": ("a b c d e f g h", "h g f e d c b a", None),
    "another text": (TICKET, "The parcel was never delivered to our door, where is it now?", None),
    "no words": ("?!", "?!", None),
}  # fmt: skip


@pytest.mark.parametrize("name", KNOWN)
def test_the_similarity_of_known_pairs(name):
    text, example, known = KNOWN[name]
    found = similarity(text, example)
    assert found == (known if known is None or known >= contamination.NEAR else None)
    if known is not None and known < contamination.NEAR:
        made = find([a_case(text)], [an_example(example)], threshold=known)
        assert made.cases[0].similarity == pytest.approx(known)


@pytest.mark.parametrize(
    "hidden",
    [
        TICKET.replace("i", "\u0456").replace("o", "\u043e").replace("a", "\u0251"),
        TICKET.replace("e", "e\u200b").replace("n", "n\u034f").replace("t", "t\u00ad\u2063"),
        TICKET.replace("e", "\u00e9").replace("c", "c\u0327"),
        TICKET.replace(" ", "\u00a0").replace("l", "\uff4c").replace("m", "\u180em\U000e0020\u3164"),
        "".join(chr(0x1D400 + ord(s) - 65) if "A" <= s <= "Z" else s for s in TICKET.upper()),
    ],
    ids=["look-alikes", "no width", "accents", "forms", "mathematical"],
)
def test_a_text_that_looks_the_same_is_the_same(hidden):
    assert hidden != TICKET and similarity(hidden, TICKET) == similarity(TICKET, hidden) == 1.0


def test_the_texts_of_a_chat_are_compared():
    turns = [{"role": "user", "content": "Hello."}, {"role": "user", "content": [{"text": TICKET}]}]
    case = Case(id="c", tenant="acme", inputs={"n": 1, "turns": turns}, expected={})
    assert [item.case for item in find([case], [an_example(TICKET)]).cases] == ["c"]


def test_an_example_of_another_tenant_is_none():
    assert similarity(TICKET, TICKET, tenant="globex") is None
    assert similarity(TICKET, TICKET, tenant="") == 1.0


def test_the_most_similar_example_is_named_and_the_longest_input_is_compared():
    near, nearer = TICKET.replace("today", "tomorrow"), f"{TICKET} Thanks"
    examples = [an_example(near, where="near"), an_example(nearer, where="nearer"), an_example("billing")]
    cases = [a_case(TICKET + " Bye", name="b", label="billing"), a_case("Hello", name="a")]
    (item,) = find(cases, examples).cases
    assert (item.case, item.where) == ("b", "nearer")


def test_a_turn_of_a_prompt_is_compared_without_its_filled_places_and_by_its_lines():
    turn = "{% if passages %}\n{{ passages[0].text }}\n{% endif %}\nQuestion: {{ question }}"
    assert [item.text for item in of_turn("p", turn)] == ["Question:"]
    turn = "Keys are kept by the warden.\n\nQuestion: Who keeps keys?"
    for text in ("Who keeps keys?", "Question: who keeps keys", "Keys are kept by the warden"):
        assert find([a_case(text)], of_turn("p", turn)).cases, text
    assert not find([a_case("Who keeps them?")], of_turn("p", turn)).cases


WORDS = st.lists(st.sampled_from("abcdefg"), min_size=1, max_size=9).map(" ".join)


def shingles(text):
    words = normalise(text).split()
    return {tuple(words[n : n + 3]) for n in range(max(1, len(words) - 2))}


@given(
    st.lists(WORDS, max_size=8),
    st.lists(WORDS, min_size=1, max_size=5),
    st.sampled_from([0.3, 0.5, 0.8, 1.0]),
)
def test_what_is_found_is_what_one_comparison_after_the_other_finds(examples, texts, threshold):
    cases = [a_case(text, name=f"c{n}") for n, text in enumerate(texts)]
    made = find(cases, [an_example(text) for text in examples], threshold=threshold)
    expected = {}
    for case, text in zip(cases, texts, strict=True):
        near = [len(shingles(text) & shingles(e)) / len(shingles(text) | shingles(e)) for e in examples]
        part = len(text.split()) >= 5 and any(f" {text} " in f" {e} " for e in examples)
        best = 1.0 if part or text in examples else max(near, default=0)
        if best >= threshold - 1e-9:
            expected[case.id] = pytest.approx(best)
    assert {item.case: item.similarity for item in made.cases} == expected


def test_thousands_of_cases_and_examples_take_seconds():
    drawn = random.Random(7)
    words = [f"word{n}" for n in range(2_000)]
    texts = [" ".join(drawn.choices(words, k=25)) for _ in range(6_000)]
    planted = [text.rsplit(" ", 1)[0] + " changed" for text in texts[:50]]
    cases = [a_case(text, name=f"{n:04}") for n, text in enumerate([*planted, *texts[3_000:]])]
    started = time.process_time()
    made = find(cases, [an_example(text, where=f"{n}") for n, text in enumerate(texts[:3_000])])
    assert time.process_time() - started < 15
    assert [(item.case, item.where) for item in made.cases] == [(f"{n:04}", f"{n}") for n in range(50)]


def test_the_json_form_gives_the_same_back(tmp_path):
    made = find([a_case(TICKET, name=f"c{n}") for n in range(9)], [an_example(TICKET)])
    path = tmp_path / contamination.FILE
    assert Contamination.of_file(path) is None
    path.write_text(json.dumps(made.to_json()))
    assert Contamination.of_file(path) == made
    assert "9 of 9 cases" in made.text and "c2 (memory, t-1, 1.00); 6 more" in made.text
    few = made.of_cases(["c1", "other"])
    assert [item.case for item in few.cases] == ["c1"] and few.n_cases == 2 and few.text.count(";") == 0
    path.write_text('{"contaminated": [{"case": "c"}]}')
    with pytest.raises(ConfigError, match=r"contamination\.json"):
        Contamination.of_file(path)


def test_the_shipped_questions_stand_in_no_example():
    case = config.use_case(config.load_params(ROOT), "answers")
    cases, pages = check_data(ROOT, "answers", case)
    made = contaminated(ROOT, case, cases, pages)
    assert made.cases == () and made.text == "" and made.n_cases == len(cases) and made.n_examples > 0


LINE = {"accuracy": {"min": 0.5}, "contaminated_cases": {"count": 1}, "confidence": 0.9}


def test_a_line_of_a_gate_counts_contaminated_cases_only():
    spec = GateSpec.parse(LINE, where="here")
    assert check_spec(spec, 100) == []
    assert [line.verdict for line in judge(a_run(accuracy=[1.0] * 60), spec, phase="mvp").lines] == [
        "pass",
        "undecided",
    ]
    for line in ({"max": 0}, {"min": 1}, {"count": -1}, {"count": 0.5}):
        with pytest.raises(ConfigError, match="contaminated_cases"):
            GateSpec.parse({**LINE, "contaminated_cases": line}, where="here")
    with pytest.raises(ConfigError, match="contaminated_cases at most 2 is looser than at most 1"):
        check_tightens(spec, GateSpec.parse({**LINE, "contaminated_cases": {"count": 2}}, where="here"))


FEW = """user:
Question: Is breakfast paid?

assistant:
Yes.

user:
Within how many days must a receipt be handed in?
"""


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A use case whose prompt has two of its four questions as examples, one of them in other words."""
    root = small_repository(tmp_path_factory.mktemp("small"))
    path = root / "pipelines/prompts/brief/1.prompty"
    text = path.read_text().replace("\nuser:\n", f"\n{FEW}\nuser:\n", 1)
    shutil.rmtree(path.parent)
    registry.save_version(root, "prompt", "brief", text.encode(), author="t", reason="few", parent=None)
    stages.prepare(root, "small")
    return root


def with_line(root, count):
    case = config.use_case(config.load_params(root), "small")
    return dataclasses.replace(case, gates={"mvp": {**LINE, "contaminated_cases": {"count": count}}})


def test_the_stage_prepare_names_contaminated_cases_and_so_does_check(small):
    found = Contamination.of_file(small / layout.Results(use_case="small").prepared / contamination.FILE)
    assert [(item.case, item.similarity) for item in found.cases] == [("q4", 1.0)]
    assert found.cases[0].where == "prompt brief@1, turn 2 (user)" and found.n_cases == 4
    checked = check_all(small)
    (warning,) = [item for item in checked.findings if "contamination" in item.what]
    assert warning.warning and "q4 (prompt brief@1, turn 2 (user), 1.00)" in warning.problem
    assert "workbench check" in warning.problem


@pytest.mark.parametrize(("count", "verdict"), [(0, "fail"), (1, "pass")])
def test_a_gate_counts_what_the_stage_prepare_found(small, monkeypatch, count, verdict):
    run = a_run(accuracy=[1.0] * 4)
    run = dataclasses.replace(
        run, cases=run.cases.with_columns(case="q" + (run.cases["case"].str.tail(1).cast(int) + 1).cast(str))
    )
    monkeypatch.setattr("workbench.promotion.judgement.baseline_of", lambda *given: None)
    report = judged(small, "small", with_line(small, count), run)
    line = next(line for line in report.lines if line.metric == "contaminated_cases")
    assert (line.verdict, line.value, line.n, line.note) == (verdict, 1.0, 4, "")
    assert "q4 (prompt brief@1" in report.contaminated and report.contaminated in str(report)
    assert report.to_json()["contaminated"] == report.contaminated
    others = dataclasses.replace(run, cases=run.cases.filter(run.cases["case"] != "q4"))
    report = judged(small, "small", with_line(small, count), others)
    assert report.contaminated == "" and "contaminated" not in report.to_json()


def test_rows_with_titles_are_examples_and_other_documents_are_none(tmp_path):
    case = config.use_case(config.load_params(ROOT), "triage")
    cases, pages = check_data(ROOT, "triage", case)
    made = contaminated(ROOT, case, cases, pages)
    assert made.n_examples > len(pages) > 400
    first = next(iter(cases))
    planted = dataclasses.replace(pages[0], text=first.inputs["text"], tenant=first.tenant, source="planted")
    (found,) = [c for c in contaminated(ROOT, case, [first], [planted]).cases if c.case == first.id]
    assert found.where == f"memory solved@1, {first.tenant}/planted" and found.similarity == 1.0
    answers = config.use_case(config.load_params(ROOT), "answers")
    question = Case(id="q", tenant="acme", inputs={"question": pages[0].text}, expected={})
    assert contaminated(ROOT, answers, [question], [dataclasses.replace(pages[0], tenant="acme")]).cases == ()
