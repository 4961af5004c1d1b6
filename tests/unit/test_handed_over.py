"""What a kernel hands over is taken by descriptor, with the gateway's account of its calls."""

from __future__ import annotations

import json
import os

import polars as pl
import pytest

from workbench.errors import CorruptError, RefusedError
from workbench.promotion import handed_over
from workbench.promotion.handed_over import check_counts, take

TOLD = {"case": "a", "output": '"x"', "passages": [], "sources": [], "task": "t", "tenant": "acme"}
COUNTS = {"rows": 1, "answered": 1, "calls": 9, "cost_usd": 0.0, "input_tokens": 0, "output_tokens": 0}


def record(**fields):
    usual = {"recorded_latency_s": 0.5, "input_tokens": 10, "output_tokens": 5, "cost_usd": 0.15, "hits": []}
    return {"port": "model", "operation": "chat", "degraded": False, **usual, "principal": "x", **fields}


@pytest.fixture
def kernel(tmp_path):
    """The folder of a kernel that published one file."""
    folder = tmp_path / "kernel"
    (folder / "out").mkdir(parents=True)
    (folder / "out/answers.acme.parquet").write_bytes(b"PAR1")
    (folder / "attempts.jsonl").write_text(json.dumps({**TOLD, "records": []}) + "\n")
    (folder / "batch.json").write_text(json.dumps({**COUNTS, "held": False, "fallback": 3}))
    return folder


def taken(kernel, records):
    work = kernel.parent
    take(kernel, work, records, notebook="n.ipynb")
    counts = json.loads((work / "batch.json").read_bytes())
    return [json.loads(line) for line in (work / "attempts.jsonl").read_text().splitlines()], counts


def test_calls_and_amounts_are_the_gateway_s(kernel):
    records = {"a": [record(), record(cost_usd=0.05, degraded=True)], "b": [record()]}
    (line,), counts = taken(kernel, records)
    assert [told["cost_usd"] for told in line.pop("records")] == [0.15, 0.05]
    assert line == TOLD
    amounts = {"calls": 2, "cost_usd": 0.2, "input_tokens": 20, "output_tokens": 10, "degraded": 1}
    assert counts == {"rows": 1, "answered": 1, "held": False, **amounts}
    assert (kernel.parent / "out/answers.acme.parquet").read_bytes() == b"PAR1"


def test_a_kernel_that_made_no_call_used_nothing(kernel):
    (line,), counts = taken(kernel, {})
    assert line["records"] == []
    assert (counts["calls"], counts["cost_usd"]) == (0, 0.0) and "fallback" not in counts


def test_a_kernel_that_published_nothing_leaves_nothing(tmp_path):
    take(tmp_path / "kernel", tmp_path, {}, notebook="n.ipynb")
    assert list(tmp_path.iterdir()) == []


def linked(kernel, name):
    (kernel.parent / "secret").write_text("secret")
    (kernel / name).unlink(missing_ok=True)
    return kernel / name, kernel.parent / "secret"


@pytest.mark.parametrize("name", ["attempts.jsonl", "out/more.parquet", "batch.json"])
@pytest.mark.parametrize("how", ["symlink", "hard", "pipe", "folder"])
def test_what_is_no_regular_file_of_the_kernel_s_own_is_refused(kernel, name, how):
    path, secret = linked(kernel, name)
    {
        "symlink": lambda: path.symlink_to(secret),
        "hard": lambda: path.hardlink_to(secret),
        "pipe": lambda: os.mkfifo(path),
        "folder": path.mkdir,
    }[how]()
    with pytest.raises(RefusedError, match="no regular file of its own"):
        take(kernel, kernel.parent, {}, notebook="n.ipynb")
    assert not (kernel.parent / "batch.json").exists()
    assert not any(b"secret" in file.read_bytes() for file in (kernel.parent / "out").glob("*"))


def test_a_folder_of_published_files_that_is_a_link_is_none(kernel, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "secret").write_text("secret")
    (kernel / "out/answers.acme.parquet").unlink()
    (kernel / "out").rmdir()
    (kernel / "out").symlink_to(elsewhere)
    take(kernel, kernel.parent, {}, notebook="n.ipynb")
    assert not (kernel.parent / "out").exists()


@pytest.mark.parametrize("counts", ["[]", '"x"', "{"])
def test_counts_that_are_none_are_named(kernel, counts):
    (kernel / "batch.json").write_text(counts)
    with pytest.raises(CorruptError, match=r"batch.json|counts"):
        take(kernel, kernel.parent, {}, notebook="n.ipynb")


def test_a_line_that_is_no_attempt_stays_as_it_is(kernel):
    lines = ['{"task": "ans', '["a"]', '{"case": 1}']
    (kernel / "attempts.jsonl").write_text("\n".join(lines) + "\n")
    take(kernel, kernel.parent, {"a": [record()]}, notebook="n.ipynb")
    assert (kernel.parent / "attempts.jsonl").read_text().splitlines() == lines


def test_files_with_holes_are_bounded_in_all(kernel, monkeypatch):
    monkeypatch.setattr(handed_over, "_MOST_IN_ALL", 1 << 20)
    for number in range(3):
        with (kernel / f"out/more-{number}.parquet").open("wb") as file:
            file.truncate(1 << 19)
    with pytest.raises(RefusedError, match="in all"):
        taken(kernel, {})


def test_a_name_that_a_terminal_would_obey_is_refused_and_not_shown(kernel):
    (kernel / "out/\x1b[31m.parquet").write_bytes(b"PAR1")
    with pytest.raises(RefusedError, match=r"\\x1b") as caught:
        taken(kernel, {})
    assert "\x1b" not in str(caught.value)


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ({"answered": 3}, "counts 3 rows as answered, and published 2"),
        ({"quarantined": 0}, "counts 0 rows as quarantined, and published 2"),
        ({"rows": None}, "no whole numbers"),
        ({"rows": True}, "no whole numbers"),
        ({"answered": -1}, "no whole numbers"),
        ({"held": False}, "2 of 4 rows are broken"),
    ],
)
def test_counts_of_a_job_are_those_of_what_it_published(tmp_path, told, said):
    for name in ("answers.acme", "quarantine"):
        (tmp_path / "out").mkdir(exist_ok=True)
        pl.DataFrame({"id": ["a", "b"]}).write_parquet(tmp_path / f"out/{name}.parquet")
    counts = {"rows": 4, "answered": 2, "quarantined": 2, "held": True}
    check_counts(tmp_path, counts, notebook="n", broken=0.25)
    with pytest.raises(RefusedError, match=said):
        check_counts(tmp_path, {**counts, **told}, notebook="n", broken=0.25)


def test_a_job_publishes_tables_alone(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/page.html").write_text("x")
    with pytest.raises(RefusedError, match=r"page\.html, which is no Parquet file"):
        check_counts(tmp_path, {"rows": 0, "answered": 0, "quarantined": 0}, notebook="n", broken=0.25)
    (tmp_path / "out/page.html").rename(tmp_path / "out/page.parquet")
    with pytest.raises(CorruptError, match="not readable"):
        check_counts(tmp_path, {"rows": 0, "answered": 0, "quarantined": 0}, notebook="n", broken=0.25)
