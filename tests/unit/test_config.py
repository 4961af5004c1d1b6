from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import pytest

from workbench import config, files
from workbench.config import Execution
from workbench.errors import ConfigError, NotFoundError
from workbench.privacy.repository import redaction_of

SHIPPED = Path(__file__).parents[2] / "params.yaml"
SERVER = "memory_provider: weaviate"


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("    owner:", "    ownr:", r"unknown key 'use_cases\.answers\.ownr' \(nearest: 'owner'"),
        ("    title: Answers from the company handbook\n", "", r"missing key 'use_cases\.answers\.title'"),
        ("prompt: {name: answer, version: 2}", "prompt: answer@2", r"use_cases\.answers\.prompt"),
        ("phase: mvp", "phase: mlpv", r"use_cases\.answers\.phase"),
        ('as_of: "2026-11-01"', 'as_of: "1st of May"', "is not a day like"),
        ("tenants: [acme, globex, python]", "tenants: []", r"tenants is empty"),
        ("tenants: [acme, globex, python]", "tenants: [acme, ../x]", r"'../x' cannot name a tenant"),
        ("tenants: [acme, globex, python]", "tenants: [ACME]", "'ACME' cannot name a tenant"),
        ("tenants: [acme, globex, python]", 'tenants: [""]', "'' cannot name a tenant"),
        ("    seed: 7", "    admins: [ann]\n    keepers: [ann]", "both admins and keepers"),
        ("      mvp:\n", "      mpv:\n", "gates has no column for phase 'mvp'"),
        ("    concurrency: 2", "    base_url: localhost", "base_url: .localhost. does not have the form"),
        ("    concurrency: 2", "    concurrency: 0", "concurrency must be 1 or more"),
        ("    seed: 7", f"    seed: {'9' * 23}", r"use_cases\.answers\.seed: integer exceeds 64-bit range"),
        (
            "    baseline: few_shot",
            "    baseline: candidate",
            "are the same arm, 'candidate'",
        ),
        ("    seed: 7", "    memory_awake: 20", "keys of a memory server"),
        ("    seed: 7", '    known_limits: ["It is so.", " "]', r"answers\.known_limits has an empty entry"),
        ("    seed: 7", "    known_limits: It is so.", r"use_cases\.answers\.known_limits"),
        ("    seed: 7", "    execution: {confinement: always}", r"execution\.confinement"),
        ("    seed: 7", "    execution: {confined: off}", r"execution\.confined.*nearest: 'confinement'"),
        ("    seed: 7", "    execution: {read: [../secrets]}", r"execution\.read"),
        (
            "    sample: data/inbox/sample",
            "    execution: {read: [/etc]}\n    sample: data/inbox/sample",
            r"answers\.execution\.read",
        ),
        ("    seed: 7", "    price_per_million: {input_usd: 0}", "only for a model at another endpoint"),
        ("    seed: 7", "    provider: local\n    price_per_million: {input_usd: 0}", "only for a model at"),
        ("    seed: 7", "    base_url: http://a/v1\n    price_per_million: {output_usd: 1}", "'.*input_usd'"),
        ("    seed: 7", "    base_url: http://a/v1\n    price_per_million: {input: 1}", r"million\.input"),
        ("    seed: 7", f"    {SERVER}\n    memory_awake: 0", r"memory_awake must be 1 or more, found 0"),
        ("    seed: 7", "    seed: [7", r"params\.yaml:\d+: "),
    ],
)
def test_a_wrong_key_or_value_of_params_is_named(tmp_path, before, after, said):
    text = SHIPPED.read_text()
    assert before in text
    (tmp_path / "params.yaml").write_text(text.replace(before, after, 1))
    with pytest.raises(ConfigError, match=said) as caught:
        config.load_params(tmp_path)
    assert caught.value.hint


def test_params_are_parsed_again_only_after_the_file_has_changed(tmp_path, monkeypatch):
    path, parsed = tmp_path / "params.yaml", []
    read = files.read_yaml
    monkeypatch.setattr(files.reading, "YOUNG_NS", -1)  # this test's file is not two seconds old
    monkeypatch.setattr(files, "read_yaml", lambda *args, **kwargs: parsed.append(1) or read(*args, **kwargs))

    def seed():
        return config.load_params(tmp_path).use_cases["answers"].seed

    text = SHIPPED.read_text()
    path.write_text(text)
    status = path.stat()
    assert [seed(), seed()] == [7, 7] and config.load_params(tmp_path) is config.load_params(tmp_path)
    assert len(parsed) == 1
    path.write_text(text.replace("    seed: 7", "    seed: 8", 1))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))  # as a restored backup may have
    assert [seed(), seed()] == [8, 8] and len(parsed) == 2
    (tmp_path / "other").write_text(text.replace("    seed: 7", "    seed: 9", 1))
    (tmp_path / "other").replace(path)
    assert [seed(), seed()] == [9, 9] and len(parsed) == 3
    path.write_text("use_cases: {}")
    for _ in range(2):
        with pytest.raises(ConfigError, match="use_cases is empty"):
            seed()
    path.unlink()
    with pytest.raises(NotFoundError):
        seed()


@pytest.mark.parametrize("key", ["admins", "keepers"])
def test_the_admins_are_those_named_under_the_key_or_its_former_name(tmp_path, key):
    (tmp_path / "params.yaml").write_text(SHIPPED.read_text().replace("    seed: 7", f"    {key}: [ann]", 1))
    case = config.load_params(tmp_path).use_cases["answers"]
    assert case.rights("ann")["admin"] and not case.rights("eve")["admin"]


@pytest.mark.parametrize(("line", "most"), [("memory_awake: 20", 20), ("memory_provider: weaviate", 200)])
def test_how_many_tenants_a_process_keeps_awake_is_of_its_server(tmp_path, line, most):
    lines = "\n    ".join(dict.fromkeys([SERVER, line]))
    (tmp_path / "params.yaml").write_text(SHIPPED.read_text().replace("    seed: 7", f"    {lines}", 1))
    case = config.load_params(tmp_path).use_cases["answers"]
    assert config.memory_server(case).awake == most


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("    sample:", "    sampel:", r"unknown key 'jobs\.answers\.sampel' \(nearest: 'sample'"),
        ("    use_case: answers", "    use_case: answer", "no use case 'answer' .*nearest: 'answers'"),
        ("    sample: data/inbox/sample.jsonl", "", r"missing key 'jobs\.answers\.sample'"),
        ("seconds: 900", "seconds: 0", r"jobs\.answers\.limits: seconds must be 1 or more"),
        ("seconds: 900", "seconds: 15m", r"jobs\.answers\.limits\.seconds"),
        ("broken: 0.25", "broken: 0", "broken above 0 and up to 1"),
        ("broken: 0.25", "broken: 25", "broken above 0 and up to 1"),
        ("broken: 0.25", "borken: 0.25", r"unknown key 'jobs\.answers\.limits\.borken' \(nearest: 'broken'"),
        ("{date}.parquet", "{day}.parquet", r"jobs\.answers\.input: .* other than \{date\} and \{time\}"),
        ("{date}.parquet", "{}.parquet", "has a field other than"),
        ("{date}.parquet", "{date.year}.parquet", "has a field other than"),
        ("{date}.parquet", "{date.parquet", "has a field other than"),
        ("cron: ", "when: ", r"unknown key 'jobs\.answers\.schedule\.when'"),
        ("\n  answers:\n    use_case", "\n  _answers:\n    use_case", "cannot name a job"),
        ("\n  answers:\n    use_case", '\n  "../answers":\n    use_case', "cannot name a job"),
    ],
)
def test_a_wrong_key_or_value_of_a_job_is_named(tmp_path, before, after, said):
    text = SHIPPED.read_text()
    assert before in text
    (tmp_path / "params.yaml").write_text(text.replace(before, after, 1))
    with pytest.raises(ConfigError, match=said) as caught:
        config.load_params(tmp_path)
    assert caught.value.hint


def test_a_job_is_found_by_name_and_an_unknown_one_is_told_how_to_be_declared():
    params = config.load_params(SHIPPED.parent)
    assert config.job(params, "answers").use_case == "answers"
    with pytest.raises(NotFoundError, match=r"declares no job .answer. .*nearest: .answers.") as caught:
        config.job(params, "answer")
    assert caught.value.hint.startswith("add under jobs: answer: ")


def test_what_a_job_does_not_say_has_a_safe_default(tmp_path):
    text = SHIPPED.read_text()
    head, _, _ = text.partition("\njobs:")
    (tmp_path / "params.yaml").write_text(head + "\njobs:\n  a: {use_case: answers, sample: s.jsonl}\n")
    (job,) = config.load_params(tmp_path).jobs.values()
    assert (job.input, job.schedule) == (None, None) and job.limits == config.JobLimits()
    assert job.limits.seconds >= 60 and job.limits.broken < 1
    (tmp_path / "params.yaml").write_text(head)
    assert config.load_params(tmp_path).jobs == {}


def test_frozen_references_are_what_bare_names_mean_and_nothing_else_changes():
    case = config.load_params(SHIPPED.parent).use_cases["answers"]
    pins = {"prompt": "other@7", "memory": "handbook@1", "model": "smollm2-135m@3"}
    pinned = config.pinned(case, pins)
    assert (str(pinned.prompt), str(pinned.memory), pinned.model) == tuple(pins.values())
    rest = {"prompt": case.prompt, "memory": case.memory, "model": case.model}
    assert dataclasses.replace(pinned, **rest) == case
    assert config.pinned(case, {}) == case
    assert config.pinned(case, {"model": "m@1"}).prompt == case.prompt


@pytest.mark.parametrize(
    ("text", "said"),
    [("", "found nothing"), ("use_cases: {}\n", "is empty"), ("- a\n", "found list")],
)
def test_params_without_a_use_case_say_how_to_get_them_back(tmp_path, text, said):
    (tmp_path / "params.yaml").write_text(text)
    with pytest.raises(ConfigError, match=said) as caught:
        config.load_params(tmp_path)
    assert caught.value.hint.endswith("git checkout -- params.yaml")
    assert caught.value.hint.startswith("workbench init ") is (said == "is empty")


@pytest.mark.parametrize("value", ["[7", ".inf"])
def test_a_malformed_line_is_corrected_before_all_edits_are_discarded(tmp_path, value):
    (tmp_path / "params.yaml").write_text(SHIPPED.read_text().replace("    seed: 7", f"    seed: {value}", 1))
    with pytest.raises(ConfigError) as caught:
        config.load_params(tmp_path)
    assert "git checkout" not in caught.value.hint.partition("git diff -- params.yaml")[0]


@pytest.mark.parametrize(
    ("key", "said"), [("seconds: 0", "seconds: 3600"), ("seconds: 60, megabytes: 0", "megabytes: 64")]
)
def test_a_wrong_cache_is_told_a_usual_one(tmp_path, key, said):
    text = SHIPPED.read_text().replace("    seed: 7", f"    cache: {{{key}}}", 1)
    (tmp_path / "params.yaml").write_text(text)
    with pytest.raises(ConfigError, match="must be above 0") as caught:
        config.load_params(tmp_path)
    assert said in caught.value.hint


def test_an_unknown_use_case_is_answered_with_the_nearest():
    with pytest.raises(NotFoundError, match=r"no use case .answer. .*nearest: .answers."):
        config.use_case(config.load_params(SHIPPED.parent), "answer")


def test_the_repository_is_found_from_any_folder_inside(tmp_path):
    (tmp_path / "params.yaml").write_text("use_cases: {}\n")
    inside = tmp_path / "a" / "b"
    inside.mkdir(parents=True)
    assert config.find_root(inside) == tmp_path.resolve()
    with pytest.raises(NotFoundError, match=r"no params\.yaml"):
        config.find_root(tmp_path.parent)


def test_an_execution_reaches_its_kernel_through_the_environment(monkeypatch):
    sent = Execution(notebook="n.ipynb", use_case="answers", tape="t", mode="replay")
    for name, value in sent.environment().items():
        monkeypatch.setenv(name, value)
    assert Execution.current() == sent
    monkeypatch.setenv(config.EXECUTION_VARIABLE, '{"notebook": "n", "odd": 1}')
    with pytest.raises(ConfigError, match="unknown key 'odd'"):
        Execution.current()
    monkeypatch.delenv(config.EXECUTION_VARIABLE)
    assert Execution.current() is None


def test_a_pin_reads_as_a_reference():
    assert str(config.Pin(name="answer", version=2)) == "answer@2"
    assert dataclasses.is_dataclass(config.Pin)


def test_a_group_that_is_a_principals_own_entry_is_refused(tmp_path):
    text = (Path(__file__).resolve().parents[2] / "params.yaml").read_text(encoding="utf-8")
    named = text.replace("groups: [everyone, people,", 'groups: ["principal:bob", people,')
    assert named != text
    (tmp_path / "params.yaml").write_text(named, encoding="utf-8")
    with pytest.raises(ConfigError, match="principal:bob") as caught:
        config.load_params(tmp_path)
    assert "groups" in caught.value.message


def test_a_job_states_its_confinement_over_that_of_its_use_case(tmp_path):
    stated = "    execution: {confinement: require, read: [data/tables]}\n    seed: 7"
    job = "    execution: {read: [data/inbox/names.csv]}\n    sample: data/inbox/sample"
    text = SHIPPED.read_text().replace("    seed: 7", stated, 1)
    (tmp_path / "params.yaml").write_text(text.replace("    sample: data/inbox/sample", job, 1))
    params = config.load_params(tmp_path)
    answers, triage = params.use_cases["answers"], params.use_cases["triage"]
    assert config.run_settings(params, triage, "triage").mode == "prefer"
    assert config.run_settings(params, answers, None).read == ("data/tables",)
    found = config.run_settings(params, answers, "answers")
    assert (found.mode, found.read) == ("require", ("data/tables", "data/inbox/names.csv"))


def test_an_older_version_masks_by_the_classes_of_today_whatever_else_the_file_has(tmp_path):
    stated = "of_a_later_version: {a: 1}\ndata_classes: {personal: {logs: pass}}\n"
    (tmp_path / "params.yaml").write_text(stated, encoding="utf-8")
    assert redaction_of(tmp_path).text("write to ann@example.com") == "write to ann@example.com"
    (tmp_path / "params.yaml").write_text(f"{stated}privacy: {{lexicn: x}}\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="lexicn"):
        redaction_of(tmp_path)
