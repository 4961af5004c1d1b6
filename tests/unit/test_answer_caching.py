"""The key `cache` of a use case: where answers come from the cache, and that what is forgotten leaves it."""

from __future__ import annotations

import dataclasses

import pytest
from falling_models import repository

import workbench as wb
from workbench import config, layout
from workbench.config import AnswerCaching, Execution
from workbench.errors import ConfigError
from workbench.pipeline.settings import of_stage
from workbench.testing.fakes import FakeModel
from workbench.workspace.boundary import _caching

CACHED = "first\n    cache: {seconds: 3600}"


def connected(root, *, mode="live"):
    ws = wb.connect("small", root=root, mode=mode)
    numbers = iter(range(1_000))
    ws.boundary._models["first@1"] = model = FakeModel(lambda _: str(next(numbers)))
    return ws, model


def test_an_exact_repetition_costs_nothing_and_its_saving_is_shown(tmp_path):
    ws, model = connected(repository(tmp_path, model=CACHED))
    first, again = (ws.model().chat("a taxi?") for _ in range(2))
    assert first.text == again.text == "0" and len(model.calls) == 1
    assert first.cost_usd > 0 and again.cost_usd == 0 and again.replayed
    client = ws.openai().chat.completions
    asked = {"model": "first", "messages": [{"role": "user", "content": "a bus?"}]}
    assert client.create(**asked).choices[0].message.content == "1"
    counted = {"stream": True, "stream_options": {"include_usage": True}}
    streamed = [
        "".join(c.choices[0].delta.content or "" for c in client.create(**asked, **counted) if c.choices)
        for _ in range(2)
    ]
    assert streamed == ["2", "2"]
    calls = ws.calls()
    assert calls["source"].to_list() == ["model", "exact", "model", "model", "exact"]
    assert calls["saved_usd"].to_list()[:2] == [None, first.cost_usd] and calls["saved_usd"][4] > 0
    ws.close()


def test_without_the_key_nothing_is_cached(tmp_path):
    ws, model = connected(repository(tmp_path, model="first"))
    for _ in range(2):
        ws.model().chat("a taxi?")
    assert len(model.calls) == 2 and not (tmp_path / layout.EXACT_ANSWERS).exists()


def test_no_stage_job_or_recording_is_answered_from_the_cache(tmp_path):
    case = dataclasses.replace(
        config.use_case(config.load_params(repository(tmp_path, model=CACHED)), "small")
    )
    explored = Execution(notebook="")
    assert set(_caching(tmp_path, "small", case, explored, mode="auto")) == {"cache"}
    for mode in ("record", "replay"):
        assert not _caching(tmp_path, "small", case, explored, mode=mode)
    for field in ("tape", "job"):
        execution = dataclasses.replace(explored, **{field: "x"})
        assert not _caching(tmp_path, "small", case, execution, mode="auto")


def test_a_change_of_the_cache_reruns_no_stage(tmp_path):
    case = config.use_case(config.load_params(repository(tmp_path, model=CACHED)), "small")
    assert case.cache == AnswerCaching(seconds=3600)
    without = dataclasses.replace(case, cache=None)
    assert of_stage("judge", case, "") == of_stage("judge", without, "")


def cached_bytes(root) -> bytes:
    """The bytes of the cache's file and of its log."""
    path = root / layout.EXACT_ANSWERS
    return b"".join(file.read_bytes() for file in sorted(path.parent.glob(f"{path.name}*")))


def test_what_is_forgotten_leaves_the_cache(tmp_path):
    ws, model = connected(repository(tmp_path, model=CACHED))
    kb = ws.memory()
    kb.ingest()
    (hit,) = kb.search("When is a taxi paid?", k=1)
    assert hit.source == "taxi"
    rendered = ws.prompt().render(question="When is a taxi paid?", passages=[hit])
    for asked in (rendered, "something else"):
        ws.model().chat(asked)
    assert b"taxi" in cached_bytes(tmp_path)
    assert kb.forget(source="taxi").journal_entries == 1
    assert b"taxi" not in cached_bytes(tmp_path)
    for asked in (rendered, "something else"):
        ws.model().chat(asked)
    assert len(model.calls) == 3, "one was asked again"
    ws.close()


@pytest.mark.parametrize(
    ("cache", "said"),
    [
        ("{seconds: 0}", "seconds must be above 0"),
        ("{seconds: 1e9}", "seconds must be above 0 and up to"),
        ("{seconds: 60, megabytes: 0}", "megabytes must be above 0"),
        ("{seconds: 60, operations: [count]}", "operations"),
        ("{megabytes: 6}", "missing key"),
    ],
)
def test_a_wrong_value_is_an_error_of_the_file(tmp_path, cache, said):
    root = repository(tmp_path, model=f"first\n    cache: {cache}")
    with pytest.raises(ConfigError, match=said) as caught:
        config.load_params(root)
    assert "cache" in caught.value.message
