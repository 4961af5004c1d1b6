"""docs/models.md: what it says of dialects is what the code does, and its code runs."""

from __future__ import annotations

import re
from pathlib import Path

from endpoint import endpoint, speaking
from small_use_case import small_repository

import workbench as wb
from workbench import files, wire
from workbench.controls.position import MODEL
from workbench.models.client_routes import GOVERNED
from workbench.models.stateless import STATEFUL
from workbench.testing.fakes import FakeModel
from workbench.workspace.save import save

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/models.md").read_text(encoding="utf-8")
CARD = re.search(r"<!-- file: (.*?) -->\n```yaml\n(.*?)```", PAGE, re.DOTALL)
(CODE,) = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


def test_the_code_of_the_page_runs_against_an_endpoint(tmp_path, capsys):
    root = small_repository(tmp_path)
    with endpoint(speaking(FakeModel())) as url:
        card = re.sub(r"base_url: .*", f"base_url: {url}", CARD[2]) + "dialect: responses\n"
        files.write_atomic(root / CARD[1], card.encode())
        save(root, "model/served-7b", reason="the page")
        ws = wb.connect("small", root=root, mode="live")
        try:
            exec(CODE, {"ws": ws})
            calls = ws.calls()
        finally:
            ws.close()
    shown = capsys.readouterr().out
    assert shown.startswith("May I expense a taxi? 5\nName three colours.[")
    assert "'served-7b'" in shown
    assert calls["operation"].to_list() == ["respond", "respond"]
    assert calls["output_tokens"].to_list() == [5, 3]


def test_the_table_has_every_operation_with_its_route():
    rows = dict(re.findall(r"^\| (\w+) \| `(\S+)` \|", PAGE, re.MULTILINE))
    assert {f"model.{name}" for name in rows} == MODEL
    assert {name: path for name, path in rows.items() if name != "count"} == {
        name: each.path for name, each in wire.DIALECTS.items() if name != "count"
    }
    assert set(GOVERNED.values()) == set(rows)


def test_every_field_that_is_refused_is_on_the_page():
    section = PAGE.partition("## State at the endpoint")[2]
    assert all(f"`{name}" in section for name in STATEFUL)
