"""Classes that a memory and a dataset declare: requests with such passages or values have them."""

import contextlib
import dataclasses

import pytest
from small_use_case import small_repository

import workbench as wb
from workbench import config, registry, retrieval
from workbench.diagnostics.check import _look_at_memory
from workbench.errors import ConfigError, PrivacyError
from workbench.experiments.scorers import contains
from workbench.testing.fakes import FakeModel
from workbench.workspace import boundary, connection

HEALTH = "data_classes: {health: {like: personal, external: %s}}\n"


@pytest.fixture
def model():
    return FakeModel(lambda _: "30 days")


@pytest.fixture
def root(tmp_path, model, monkeypatch):
    """The small use case with a model at an address, and a version of its memory that declares a class."""
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    opened = boundary.open_model
    monkeypatch.setattr(
        boundary, "open_model", lambda card, home: model if card.kind == "chat" else opened(card, home)
    )
    made = small_repository(tmp_path, endpoint="http://127.0.0.1:9/v1")
    text = (made / "pipelines/memories/small/1.yaml").read_text() + "data_class: health\n"
    registry.save_version(made, "memory", "small", text.encode(), author="t", reason="t", parent=1)
    return made


def stated(root, *, health="refuse", memory=1, classes="{}"):
    """Write the actions of `health`, the memory's version and the classes of columns into params.yaml."""
    params = root / "params.yaml"
    dataset = f"    dataset: {{file: data/small/questions.jsonl, classes: {classes}}}\n"
    text = params.read_text().replace("    gates:", f"{dataset}    gates:")
    text = text.replace("{name: small, version: 1}", f"{{name: small, version: {memory}}}")
    params.write_text(text + HEALTH % health)
    return contextlib.closing(connection.connect("small", root=root))


def asked(ws, passages):
    return ws.model().chat(ws.prompt().render(question="Within how many days?", passages=passages))


def classes_of(ws):
    """The classes of the recorded calls of chat models, in the order of their names."""
    return sorted(ws.calls().filter(operation="chat")["data_class"])


def test_a_prompt_with_a_passage_of_a_declared_memory_is_refused_and_without_one_it_is_sent(root, model):
    with stated(root, memory=2) as ws:
        ws.memory().add(wb.load(root / "data/small"))
        hits = ws.memory().search("receipt", k=1)
        assert [hit.data_class for hit in hits] == ["health"]
        with pytest.raises(PrivacyError, match=r"'health'.*memory"):
            asked(ws, hits)
        assert not model.calls
        assert asked(ws, []).text == "30 days"
        assert classes_of(ws) == ["health", "internal"]


def test_a_class_that_may_pass_is_recorded_and_a_memory_without_one_declares_nothing(root, model):
    with stated(root, memory=2, health="pass") as ws:
        ws.memory().add(wb.load(root / "data/small"))
        hits = ws.memory().search("receipt", k=1)
        asked(ws, hits)
        asked(ws, [dataclasses.replace(hit, data_class="") for hit in hits])
        assert classes_of(ws) == ["health", "internal"]
        assert len(model.calls) == 1, "a recording has the same key with a class and without one"


@wb.task
def sends_the_question(ws, case: wb.Question) -> str:
    return ws.model().chat(f"Q: {case.question}").text


@wb.task
def sends_the_id(ws, case: wb.Question) -> str:
    return ws.model().chat(f"Q: {case.id}").text


def test_an_experiment_and_a_job_refuse_a_request_with_the_value_of_a_declared_column(root, model):
    with stated(root, classes="{question: health}") as ws:
        scorers = [contains(name="accuracy")]
        run = ws.experiment("one").run(sends_the_question, ws.cases(), scorers=scorers)
        assert set(run.cases["status"]) == {"unscored"} and "health" in run.cases["error"][0]
        batch = sends_the_question.map(ws.inputs("data/small/questions.jsonl"))
        assert len(batch.broken) == 4 and "health" in batch.broken[0].reason
        assert set(classes_of(ws)) == {"health"} and not model.calls
        run = ws.experiment("two").run(sends_the_id, ws.cases(), scorers=scorers)
        assert set(run.cases["status"]) == {"scored"} and len(model.calls) == 4
        ws.model().chat(f"Q: {ws.cases().cases[0].inputs['question']}")  # no case is answered here


@pytest.mark.parametrize(
    ("classes", "named"),
    [
        ("{qestion: personal}", r"classes: 'qestion'.*'question'"),
        ("{answers: personal}", "classes: 'answers'"),
        ("{question: helth}", r"classes: .*'helth'.*'health'"),
        ("[question]", "classes"),
    ],
)
def test_a_class_or_a_column_that_there_is_not_is_an_error_of_params(root, classes, named):
    stated_params(root, classes)
    with pytest.raises(ConfigError, match=rf"(?s)use_cases\.small\.dataset.*{named}"):
        config.load_params(root)


def stated_params(root, classes):
    with contextlib.suppress(ConfigError):
        stated(root, classes=classes)


def test_check_names_a_class_of_a_memory_that_there_is_not(root):
    stated_params(root, "{}")
    _look_at_memory(root, "small@2")
    text = (root / "pipelines/memories/small/2.yaml").read_text()
    for name, value, said in (("other", "helth", r"helth.*health"), ("empty", '""', "empty")):
        made = text.replace("data_class: health", f"data_class: {value}")
        registry.save_version(root, "memory", name, made.encode(), author="t", reason="t", parent=None)
        with pytest.raises(ConfigError, match=rf"data_class.*{said}"):
            _look_at_memory(root, f"{name}@1")


def test_a_spec_without_the_key_declares_none(root):
    assert retrieval.load_spec(root, "small@1").data_class is None
