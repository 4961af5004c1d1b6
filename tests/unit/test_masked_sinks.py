"""Identifiers and secrets are masked on their way to every place where texts are kept or shown."""

import asyncio
import dataclasses
import json
from pathlib import Path

import polars as pl
import pytest
from calls import Bench, chat, read, search
from planted import ALL, EMAIL, PERSON, SECRET, Echo, SmallDetector

from workbench.cli import app, output
from workbench.config import DataClass, data_rules
from workbench.controls.observe import Observe
from workbench.errors import NotebookError, PrivacyError, RefusedError
from workbench.notebooks import execution
from workbench.records.log import Lines, read_records
from workbench.telemetry.answers import AnswerFacts
from workbench.types import Event
from workbench.wire.redaction import Redaction
from workbench.workspace import privacy

MASK = Redaction(SmallDetector().find, passes=lambda _kind, _class: False)
REAL_SECRET = "ghp_" + "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8"


def test_a_record_masks_what_callers_and_documents_name(tmp_path):
    bench = Bench(tmp_path)
    observe = Observe(Lines(bench.log), clean=MASK.name)
    call = chat(labels={"prompt": f"letter to {EMAIL}", "passages": ["p-1"]})
    context = dataclasses.replace(call.context, purpose=f"answer {PERSON}")
    asyncio.run(read(lambda call: observe(call, Echo()), dataclasses.replace(call, context=context)))
    (record,) = read_records(bench.log)
    assert record["purpose"] == "answer [PERSON]" and record["labels"]["prompt"] == "letter to [EMAIL]"
    assert record["tenant"] == "acme" and record["labels"]["passages"] == ["p-1"]


@pytest.mark.parametrize("call", [chat(f"Who is {PERSON}? {EMAIL}"), search(f"Who is {PERSON}?")])
def test_the_content_of_a_span_is_masked(call):
    facts = AnswerFacts(content=True, clean=MASK.value)
    facts.take(Event(data={"choices": [{"message": {"role": "assistant", "content": SECRET}}]}))
    told = json.dumps(facts.attributes(call))
    assert "[PERSON]" in told and not any(value in told for value in ALL)


def test_the_outputs_of_an_executed_notebook_are_masked_and_its_code_stays(tmp_path):
    path = Path(tmp_path, "run.ipynb")
    outputs = [
        {"output_type": "stream", "name": "stdout", "text": ["to Jane ", "O'Neil\n", f"at {EMAIL}\n"]},
        {"output_type": "display_data", "metadata": {}, "data": {
            "text/html": f"<b>{PERSON}</b>", "image/png": f"{SECRET}", "application/json": {"a": EMAIL}}},
        {"output_type": "error", "ename": "KeyError", "evalue": PERSON, "traceback": [f"\x1b[0m {EMAIL}"]},
    ]  # fmt: skip
    cell = {"cell_type": "code", "id": "a", "metadata": {}, "source": f"mail({EMAIL!r})", "outputs": outputs,
            "execution_count": 1}  # fmt: skip
    book = {"cells": [cell], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
    path.write_text(json.dumps(book))
    execution._clean_outputs(path, MASK.text)
    kept = execution._executed(path)["cells"][0]
    assert "".join(kept["source"]) == cell["source"] and kept["outputs"][1]["data"]["image/png"] == SECRET
    kept["outputs"][1]["data"].pop("image/png")
    told = json.dumps(kept["outputs"])
    assert not any(value in told for value in ALL) and told.count("[PERSON]") == 3


def notebook_of(folder: Path) -> Path:
    path = Path(folder, "a.ipynb")
    cell = {"cell_type": "code", "id": "a", "metadata": {"tags": ["parameters"]}, "source": "", "outputs": [],
            "execution_count": None}  # fmt: skip
    path.write_text(json.dumps({"cells": [cell], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}))
    return path


def test_a_failed_notebook_does_not_quote_what_its_error_quotes(tmp_path, monkeypatch):
    def failing(*_):
        raise NotebookError(f"cell 1: KeyError: {EMAIL}")

    monkeypatch.setattr(execution, "_papermill", failing)
    path = notebook_of(tmp_path)
    with pytest.raises(NotebookError, match=r"KeyError: \[EMAIL\]"):
        execution.execute(
            path, root=tmp_path, parameters={}, execution=execution.Execution(notebook=str(path)),
            clean=MASK.text,
        )  # fmt: skip


@pytest.mark.parametrize(
    ("job", "watched", "kept"), [(None, False, "[EMAIL]"), ("j", True, EMAIL), ("j", False, None)]
)
def test_only_the_copy_that_promotion_screens_is_not_masked(tmp_path, monkeypatch, job, watched, kept):
    def printing(path, output, *_):
        book = json.loads(path.read_text())
        book["cells"][0]["outputs"] = [{"output_type": "stream", "name": "stdout", "text": f"{EMAIL}\n"}]
        output.write_text(json.dumps(book))

    monkeypatch.setattr(execution, "_papermill", printing)
    path = notebook_of(tmp_path)
    executed = execution.execute(
        path, root=tmp_path, parameters={}, execution=execution.Execution(notebook=str(path), job=job),
        clean=MASK.text, watch=tmp_path / "report" if watched else None,
    )  # fmt: skip
    outputs = json.loads(executed.notebook.read_text())["cells"][0]["outputs"]
    assert [output["text"] for output in outputs] == ([] if kept is None else [f"{kept}\n"])
    assert executed.notebook.stat().st_mode & 0o077 == 0


def test_the_terminal_shows_no_secret_and_no_address_but_ordinary_output_as_it_is(capsys, monkeypatch):
    ordinary = "v1.2.3 of 2026-11-30T09:41:12 at 10.0.0.5:8080, digest 0cc2a334036d, Max Muster"
    assert output.masked(ordinary) is ordinary
    output.say({"key": REAL_SECRET}, "", as_json=True)
    output.say(None, f"mail jane@acme.com, key {REAL_SECRET}", as_json=False)
    shown = capsys.readouterr().out
    assert json.loads(shown.splitlines()[0] + shown.splitlines()[1] + "}") == {"key": "[SECRET]"}
    assert shown.splitlines()[-1] == "mail [EMAIL], key [SECRET]"

    def failing():
        raise RefusedError(f"400: {REAL_SECRET}", hint="write to jane@acme.com")

    assert app._explained(failing) == 3
    assert capsys.readouterr().err == "error: 400: [SECRET]\n  -> write to [EMAIL]\n"


def of_rules(monkeypatch, **classes):
    monkeypatch.setattr(privacy, "detector_of", lambda _: SmallDetector())
    rules = data_rules({name: DataClass(**fields) for name, fields in classes.items()})
    monkeypatch.setattr(privacy, "rules_of", lambda _: rules)


def test_a_published_table_holds_no_secret_and_personal_data_by_its_rule(monkeypatch, tmp_path):
    frame = pl.DataFrame({"id": ["1", None], "text": [f"{PERSON} {SECRET}", "fine"], "n": [1, 2]})
    of_rules(monkeypatch)
    assert privacy.protected(tmp_path, frame)["text"].to_list() == [f"{PERSON} [SECRET]", "fine"]
    of_rules(monkeypatch, personal={"outputs": "mask"})
    made = privacy.protected(tmp_path, frame)
    assert made["text"].to_list() == ["[PERSON] [SECRET]", "fine"] and made["id"].to_list() == ["1", None]
    of_rules(monkeypatch, personal={"outputs": "refuse"})
    with pytest.raises(PrivacyError, match="personal") as caught:
        privacy.protected(tmp_path, frame)
    assert caught.value.destination == "outputs" and PERSON not in str(caught.value)
    of_rules(monkeypatch, secret={"outputs": "pass"})
    assert privacy.protected(tmp_path, frame) is frame
