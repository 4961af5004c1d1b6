"""docs/models.md: its card is saved and used as the page says, and its table has the keys of a card."""

from __future__ import annotations

import dataclasses
import re
from functools import partial
from pathlib import Path

import pytest
from small_use_case import small_repository

from workbench import config, files
from workbench.config import AnswerCaching
from workbench.controls.fallback import TRIGGERS
from workbench.errors import ConfigError
from workbench.models import ModelCard, load_card
from workbench.models.card import ModelLimits, Runtime, ServerSettings, Weights
from workbench.models.prices import Price
from workbench.promotion.requirements import _how_to_save
from workbench.types import STATED
from workbench.workspace.boundary import card_of_use_case
from workbench.workspace.candidates import candidates
from workbench.workspace.save import save

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/models.md").read_text(encoding="utf-8")
CARD = re.search(r"<!-- file: (.*?) -->\n```yaml\n(.*?)```", PAGE, re.DOTALL)
_, NAMED, FALLING, CACHING = re.findall(r"^```yaml\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
KEYS = PAGE.partition("## Prices")[0]
ROWS = [[c.strip() for c in line.split(" | ")] for line in KEYS.splitlines() if line.startswith("| `")]


def test_the_card_of_the_page_is_saved_with_its_command_and_named_as_the_page_names_it(tmp_path):
    root = small_repository(tmp_path)
    files.write_atomic(root / CARD[1], CARD[2].encode())
    reference, reason = re.search(r'workbench save (\S+) --reason "(.*)"', PAGE).groups()
    assert str(save(root, reference, reason=reason)) == "served-7b@1"
    params = root / "params.yaml"
    params.write_text(params.read_text().replace("    model: smollm2-135m\n", f"    {NAMED}"))
    card = card_of_use_case(root, config.load_params(root).use_cases["small"])
    assert card == load_card(root, "served-7b@1") and card.reference == "served-7b@1"
    assert (card.model, card.price_per_million) == (
        "served/Some-7B:latest",
        Price(input_usd=0.15, output_usd=0.6),
    )


def test_the_fallbacks_of_the_page_are_read_and_its_table_has_every_trigger(tmp_path):
    root = small_repository(tmp_path)
    files.write_atomic(root / CARD[1], CARD[2].encode())
    save(root, "model/served-7b", reason="the page")
    params = root / "params.yaml"
    falling = FALLING.replace("\n", "\n    ").rstrip()
    params.write_text(params.read_text().replace("    model: smollm2-135m\n", f"    {falling}\n"))
    params.write_text(params.read_text().replace("    candidate:", f"    {CACHING}    candidate:"))
    case = config.load_params(root).use_cases["small"]
    assert case.cache == AnswerCaching(seconds=3600)
    found = candidates(
        card_of_use_case(root, case), case.model_choice.fallback, card_of=partial(load_card, root)
    )
    assert [item.target for item in found] == ["smollm2-135m@1", STATED] and case.model_choice.seconds == 30
    rows = re.search(r"## Fall-backs.*", PAGE, re.DOTALL)[0]
    assert set(re.findall(r"^\| `(\w+)` \|", rows, re.MULTILINE)) == {trigger.name for trigger in TRIGGERS}


def test_the_table_has_every_key_of_a_card_and_the_first_are_the_mandatory_ones():
    keys = {key: row for row in ROWS for key in re.findall(r"`(\w+)`", row[0])}
    fields = {f.name: f for f in dataclasses.fields(ModelCard)}
    assert keys.keys() == fields.keys() - {"version", "moved"}
    needed = [key for key in keys if fields[key].default is fields[key].default_factory]
    count = ["", "one", "two", "three", "four", "five", "six", "seven"].index(
        re.search(r"The first (\w+) rows are mandatory", PAGE)[1]
    )
    assert needed == [key for row in ROWS[:count] for key in re.findall(r"`(\w+)`", row[0])]


@pytest.mark.parametrize(
    ("key", "kind"),
    [
        ("limits", ModelLimits), ("price_per_million", Price), ("weights", Weights),
        ("runtime", Runtime), ("server", ServerSettings),
    ],
)  # fmt: skip
def test_a_nested_key_of_the_table_has_its_own_keys(key, kind):
    (row,) = [row for row in ROWS if f"`{key}`" in row[0]]
    assert re.findall(r"\w+", row[1]) == [f.name for f in dataclasses.fields(kind)]


def test_a_card_with_a_version_is_refused_as_the_page_says(tmp_path):
    root = small_repository(tmp_path)
    for line in ("version: 1", "moved: true"):
        files.write_atomic(root / CARD[1], f"{CARD[2]}{line}\n".encode())
        with pytest.raises(ConfigError, match="version"):
            save(root, "model/served-7b", reason="r")


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("served/Some-7B:latest", "workbench save model/some-7b-latest "),
        ("gpt-4o-mini", "workbench save model/gpt-4o-mini "),
        ("名前", "workbench save model/NAME "),
    ],
)
def test_a_promotion_says_how_a_model_without_a_card_gets_one(model, said):
    fix = _how_to_save("model", model)
    assert said in fix and "docs/models.md" in fix and "draft" not in fix
