"""docs/reliability.md: its card, its limits and its code, against an endpoint on the loopback."""

from __future__ import annotations

import re

import pytest
from documented_pages import blocks_of, copy_to, page_of
from endpoint import endpoint, speaking

from workbench import config, files
from workbench.endpoints.rates import EndpointLimits
from workbench.models import load_card
from workbench.testing.fakes import FakeModel
from workbench.workspace.save import save

PAGE = page_of("reliability.md")
CARD, LIMITS = blocks_of(PAGE, "yaml")
ASKING, ENDING = blocks_of(PAGE, "python")
PLACE = re.search(r"<!-- file: (.*?) -->", PAGE)[1]


@pytest.fixture
def served(tmp_path, monkeypatch):
    """A copy of this repository in which the use case asks the page's model under the page's limits."""
    root = copy_to(tmp_path)
    monkeypatch.chdir(root)
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    model = FakeModel()
    with endpoint(speaking(model)) as url:
        card = CARD.replace("https://models.example.com/v1", url)
        assert card != CARD
        files.write_atomic(root / PLACE, card.encode())
        save(root, "model/served-7b", reason="the page's card")
        params = root / "params.yaml"
        few = LIMITS.replace("calls: 500", "calls: 12")
        text = params.read_text().replace("    model: smollm2-135m\n", f"    model: served-7b\n    {few}", 1)
        params.write_text(text)
        yield root, model


def test_the_page_s_code_waits_and_is_ended_as_the_page_says(served, capsys):
    root, model = served
    limits = config.load_params(root).use_cases["answers"].limits
    assert (limits.calls, limits.tokens, limits.usd, limits.seconds) == (12, 200_000, 2.5, 1800)
    stated = load_card(root, "served-7b").limits
    assert (stated.requests_per_minute, stated.tokens_per_minute, stated.concurrent) == (600, 900_000, 8)
    names: dict[str, object] = {}
    exec(ASKING, names)
    frame = names["ws"].endpoints()
    (row,) = frame.to_dicts()
    assert (row["breaker"], row["concurrent"], row["in_flight"], row["waiting"]) == ("closed", 8, 0, 0)
    exec(ENDING, names)
    assert capsys.readouterr().out == "calls 12\n" and len(model.calls) == 12
    names["ws"].close()
    key = EndpointLimits(url=row["url"], model=row["model"]).key
    assert (root / f".workbench/state/endpoints/{key}.rates").stat().st_size == 32
