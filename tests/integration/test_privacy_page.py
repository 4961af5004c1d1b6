"""docs/privacy.md, followed to the letter: its classes are written, and its code shows what it says."""

import json
import shutil
import sys

import pytest
from documented_pages import blocks_of, check_shown, copy_to, page_of, run
from endpoint import endpoint, speaking
from test_budgets_page import CARD

from workbench import config, files, registry, retrieval
from workbench.prompts import prompt as prompts
from workbench.testing.fakes import FakeModel

PAGE = page_of("privacy.md")
CLASSES, TERMS, OBSERVED, INPUTS, MEMORY, COLUMN = blocks_of(PAGE, "yaml")
ASK, RECORD, REFUSED = blocks_of(PAGE, "python")
ANSWER, SHOWN, ERROR = blocks_of(PAGE, "text")


def repeated(payload):
    """The mail address of a request, as it came."""
    return "It is " + payload["messages"][-1]["content"].split(", ")[-1].split(". ")[0]


@pytest.fixture
def places(tmp_path, monkeypatch):
    """This repository's use case with a model on the loopback that repeats pseudonyms, and that model."""
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    copy_to(tmp_path)
    model = FakeModel(repeated)
    with endpoint(speaking(model)) as url:
        card = (CARD + f"base_url: {url}\n").encode()
        registry.save_version(tmp_path, "model", "paid", card, author="t", reason="paid", parent=None)
        params = tmp_path / "params.yaml"
        params.write_text(params.read_text().replace("    model: smollm2-135m\n", "    model: paid\n"))
        yield tmp_path, model
    shutil.rmtree(tmp_path / ".workbench", ignore_errors=True)


def add(root, text):
    params = root / "params.yaml"
    params.write_text(params.read_text() + "\n" + text)


def test_the_page_is_true(places):
    root, model = places
    told = run(root, sys.executable, "-c", ASK + RECORD)
    check_shown(told, ANSWER)
    check_shown(told, SHOWN)
    assert "I am <PERSON_1>, <EMAIL_1>. Repeat my address." in json.dumps(model.calls)
    assert "Garcia" not in json.dumps(model.calls)
    add(root, CLASSES)
    asked = len(model.calls)
    told = run(root, sys.executable, "-c", ASK.partition("reply")[0] + REFUSED)
    check_shown(told, ERROR)
    assert len(model.calls) == asked


def test_words_of_an_own_file_are_found(places):
    root, model = places
    add(root, TERMS)
    path = root / config.load_params(root).privacy.lexicon
    path.parent.mkdir(exist_ok=True)
    path.write_text("[project]\nBlue Falcon\n")
    asked = 'import workbench as wb\nws = wb.connect("answers")\nws.model().chat("Who leads Blue Falcon?")\n'
    run(root, sys.executable, "-c", asked)
    assert "Who leads <PROJECT_1>?" in json.dumps(model.calls)


def test_rules_can_only_observe(places):
    root, model = places
    params = root / "params.yaml"
    params.write_text(params.read_text().replace("    model: paid\n", "    model: paid\n" + OBSERVED))
    show = 'print(ws.calls().row(0, named=True)["would_refuse"])'
    told = run(root, sys.executable, "-c", ASK + show)
    assert "['privacy:personal:pseudonymise']" in told and "Garcia" in json.dumps(model.calls)
    kept = b"".join(path.read_bytes() for path in root.rglob(".workbench/**/*") if path.is_file())
    assert b"EMAIL_1" in kept and b"Garcia" not in kept


def test_the_inputs_of_the_page_are_those_of_a_prompt():
    text = f"---\nname: p\nowner: o\nreason: r\n{INPUTS}---\nuser:\n{{{{ customer }}}}: {{{{ question }}}}\n"
    made = prompts.parse(text, where="the page")
    assert made.render(customer="Zed", question="why?").identifiers == (("Zed", "customer", "personal"),)


def test_the_line_of_a_memory_and_the_column_of_a_dataset_declare_a_class(places):
    root, _ = places
    spec = (root / "pipelines/memories/handbook/2.yaml").read_text() + MEMORY
    saved = registry.save_version(
        root, "memory", "people", spec.encode(), author="t", reason="t", parent=None
    )
    assert retrieval.load_spec(root, str(saved)).data_class == "personal"
    (stated,) = files.parse_yaml(COLUMN, where="the page").values()
    assert files.parse(config.DatasetFile, stated, where="the page").classes == {"text": "personal"}


def test_the_table_of_the_page_is_that_of_the_built_in_classes():
    rules = config.data_rules({})
    rows = [line.strip("| ").split(" | ") for line in PAGE.splitlines() if line.startswith("| ")]
    head, *rows = [row for row in rows if len(row) == 6]
    stated = {
        name.strip(" `"): dict(zip(head[1:], actions, strict=True))
        for names, *actions in rows
        if "`" in names
        for name in names.split(",")
    }
    assert stated == rules.actions
