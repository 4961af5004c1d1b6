"""Identifiers and secrets do not reach records, errors of outer controls, the Lab's copies and stages."""

import asyncio
import dataclasses
import json

import pytest
from calls import Bench, chat, read, search
from planted import ALL, EMAIL, PERSON, PHONE, SECRET, Echo, SmallDetector

from workbench.cli import output
from workbench.controls.observe import Observe
from workbench.errors import ConfigError, InvalidOutputError
from workbench.notebooks import execution
from workbench.notebooks.outputs import KeptOutputs
from workbench.pipeline import stages
from workbench.records.log import Lines, read_records
from workbench.wire.redaction import Redaction

MASK = Redaction(SmallDetector().find, passes=lambda _kind, _class: False)


def failing(error, call, tmp_path):
    observe = Observe(Lines(Bench(tmp_path).log), clean=MASK.name)

    async def broken(_):
        raise error
        yield

    with pytest.raises(type(error)) as caught:
        asyncio.run(read(lambda call: observe(call, broken), call))
    return caught.value


@pytest.mark.parametrize("call", [chat(), search("?")])
def test_an_error_of_any_control_and_port_leaves_without_what_it_quotes(tmp_path, call):
    error = InvalidOutputError(f"the answer of {PERSON} is bad", violations=(f"$.{EMAIL}: required",))
    error.add_note(f"asked for {PHONE}")
    error.__cause__ = ValueError(f"not a key: {SECRET}")
    told = failing(error, call, tmp_path)
    said = f"{told!r} {told} {vars(told)} {told.__notes__} {told.__cause__!r}"
    assert "[PERSON]" in said and "[SECRET]" in said and not any(value in said for value in ALL)
    assert isinstance(told.violations, tuple)


def test_labels_are_masked_at_every_depth_and_so_are_ids_of_hits(tmp_path):
    bench = Bench(tmp_path)
    labels = {"prompt": "letter", "who": [EMAIL, {"name": PERSON, f"to {EMAIL}": 1}], "n": 3}
    observe = Observe(Lines(bench.log), clean=MASK.name)
    asyncio.run(read(lambda call: observe(call, Echo()), chat(labels=labels)))
    (record,) = read_records(bench.log)
    assert record["labels"] == {
        "prompt": "letter", "who": ["[EMAIL]", {"name": "[PERSON]", "to [EMAIL]": 1}], "n": 3,
    }  # fmt: skip


def notebook(*outputs, tags=()):
    cell = {"cell_type": "code", "id": "a", "metadata": {"tags": [*tags]}, "source": f"who = {EMAIL!r}",
            "outputs": [*outputs], "execution_count": 1}  # fmt: skip
    return {"cells": [cell], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}


def test_the_copies_of_the_lab_hold_masked_outputs(tmp_path):
    said = {"output_type": "stream", "name": "stdout", "text": f"to {PERSON}, {EMAIL}"}
    kept = KeptOutputs(folder=tmp_path / "outputs")
    kept.keep(notebook(said), stored=tmp_path / "a.ipynb", clean=MASK.text)
    cell = json.loads(kept.last.read_text())["cells"][0]
    assert cell["outputs"][0]["text"] == "to [PERSON], [EMAIL]" and EMAIL in "".join(cell["source"])


def test_an_executed_notebook_holds_no_parameter_and_no_name_of_a_field(tmp_path):
    path = tmp_path / "run.ipynb"
    shown = {"output_type": "display_data", "metadata": {}, "data": {"application/json": {EMAIL: [PERSON]}}}
    book = notebook(shown, tags=["injected-parameters"])
    book["metadata"]["papermill"] = {"parameters": {"who": EMAIL}}
    path.write_text(json.dumps(book))
    execution._clean_outputs(path, MASK.text)
    assert not any(value in path.read_text() for value in ALL)


def test_a_stage_and_a_command_mask_numbers_of_people(capsys, monkeypatch):
    def prepare(*_):
        raise ConfigError("row 3: +49 170 1234567 and ann@acme.com are no dates")

    monkeypatch.setattr(stages, "prepare", prepare)
    monkeypatch.setattr(stages, "_purge", lambda *_: None)
    assert stages.main(["prepare", "answers"]) == 2
    assert "row 3: [PHONE] and [EMAIL] are no dates" in capsys.readouterr().err
    assert output.masked("call +49 170 1234567") == "call [PHONE]"


def test_the_request_to_the_policy_holds_the_purpose_as_its_record_does(tmp_path):
    bench = Bench(tmp_path)
    observe = Observe(Lines(bench.log), clean=MASK.name)
    call = chat()
    request = {"context": {"purpose": f"for {EMAIL}"}, "tenant": "acme"}
    call.span.note(policy_request=json.dumps(request))
    context = dataclasses.replace(call.context, purpose=f"for {EMAIL}")
    call = dataclasses.replace(call, context=context)
    asyncio.run(read(lambda call: observe(call, Echo()), call))
    (record,) = read_records(bench.log)
    assert json.loads(record["policy_request"]) == {"context": {"purpose": "for [EMAIL]"}, "tenant": "acme"}
