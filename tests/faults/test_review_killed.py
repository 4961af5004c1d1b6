"""A kernel is killed in the middle of a blind review: no decision is lost, and the same call goes on."""

from __future__ import annotations

import contextlib
import json
import os
import signal

import pytest
from jupyter_client.manager import KernelManager
from reviewed_runs import run_of
from small_use_case import small_repository

import workbench as wb
from workbench.experiments.labels import read_labels
from workbench.experiments.runs import save_runs
from workbench.layout import Results

FILE = "pipelines/reviews/small/candidate-few_shot.jsonl"
PAIRS = 20
RESULTS = Results(use_case="small")
pytestmark = pytest.mark.timeout(180)
#: What a person would decide, by case alone; a second person decides another way in every third case.
DECIDES = """
import time
import workbench as wb

CHOICES = ("left", "right", "both_good", "both_bad")


def decide(review, *, turned=0, pause=0.0):
    while (pair := review.current) is not None:
        number = int(pair.case[1:])
        review.choose(CHOICES[(number + (turned and number % 3 == 0)) % 4], note=f"as {pair.case} says")
        print(f"kept {pair.case}", flush=True)
        time.sleep(pause)


def opened(ws):
    return ws.review("small/candidate", "small/few_shot", k=20)


ws = wb.connect("small")
review = opened(ws)
"""


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A small repository with the judged run, and one arm, of 24 questions."""
    root = small_repository(tmp_path / "small")
    rows = [
        {"id": f"q{i:02}", "tenant": "acme", "question": f"What is {i}?", "answers": [f"{i}"], "page": "taxi"}
        for i in range(24)
    ]
    (root / "data/small/questions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with contextlib.closing(wb.connect("small", root=root)) as ws:
        cases = ws.cases()
    for folder, arm, word in ((RESULTS.judged, "candidate", "ours"), (RESULTS.runs, "few_shot", "theirs")):
        outputs = [{"text": f"{word} <b>{case.id}</b>", "sources": []} for case in cases]
        save_runs([run_of(arm, cases, outputs, use_case="small", accuracy=[1.0] * 24)], root / folder)
    return root


@contextlib.contextmanager
def kernel(root):
    """A kernel of its own process in the repository's folder of notebooks, and its client."""
    manager = KernelManager(kernel_name="python3")
    manager.start_kernel(cwd=str(root / "notebooks"), env={**os.environ, "JUPYTER_PLATFORM_DIRS": "1"})
    client = manager.client()
    client.start_channels()
    try:
        client.wait_for_ready(timeout=60)
        yield manager, client
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


def run(client, code):
    """Run a cell; return what it printed and the forms of its value."""
    said = []
    reply = client.execute_interactive(code, timeout=60, output_hook=said.append)
    assert reply["content"]["status"] == "ok", reply["content"].get("traceback")
    printed = "".join(m["content"]["text"] for m in said if m["msg_type"] == "stream")
    values = [m["content"]["data"] for m in said if m["msg_type"] == "execute_result"]
    return printed, (values[-1] if values else {})


def decided_until(client, manager, n):
    """Decide slowly, kill the kernel after `n` decisions, and return the cases that were said to be kept."""
    client.execute("decide(review, pause=0.05)")
    said = ""
    while said.count("\n") < n:
        message = client.get_iopub_msg(timeout=30)
        said += message["content"].get("text", "")
    os.kill(manager.provisioner.pid, signal.SIGKILL)
    return [line.split()[1] for line in said.split("\n")[:-1]]


def test_a_review_of_20_pairs_survives_a_killed_kernel_and_gives_the_kappa_of_statsmodels(root):
    with kernel(root) as (manager, client):
        run(client, DECIDES)
        kept = decided_until(client, manager, 7)
    before = read_labels(root / FILE)
    assert len(kept) >= 7 and [label.case for label in before][: len(kept)] == kept
    assert len(before) < PAIRS

    with kernel(root) as (_, client):
        _, shown = run(client, f"{DECIDES}\nreview")
        assert f"{len(before)} of {PAIRS} pairs decided" in shown["text/plain"]
        assert "application/vnd.jupyter.widget-view+json" in shown
        run(client, "decide(review)")
        run(client, 'decide(opened(ws.bind(principal=wb.Principal(name="ben"))), turned=1)')
        told, _ = run(
            client,
            "first, second = sorted(review.report().decisions, key=lambda name: name == 'ben')\n"
            "found = review.report().kappa(first, second)\n"
            "import json; print(json.dumps([found.value, found.interval.low, found.interval.high, found.n]))",
        )
    labels = read_labels(root / FILE)
    assert labels[: len(before)] == before and len(labels) == 2 * PAIRS
    assert all(label.note == f"as {label.case} says" for label in labels)
    assert [*json.loads(told)] == pytest.approx([*expected_kappa(labels), PAIRS], abs=1e-9)


def expected_kappa(labels):
    """Kappa and its interval by statsmodels, from the lines of the file alone."""
    by_case = {}
    for label in labels:
        sides = {"left": label.left.arm, "right": label.right.arm}
        by_case.setdefault(label.case, {})[label.reviewer == "ben"] = sides.get(label.choice, label.choice)
    categories = ("candidate", "few_shot", "both_good", "both_bad")
    table = [[0] * 4 for _ in categories]
    for decided in by_case.values():
        table[categories.index(decided[False])][categories.index(decided[True])] += 1
    from statsmodels.stats.inter_rater import cohens_kappa

    found = cohens_kappa(table)
    assert 0 < found.kappa < 1
    return found.kappa, max(-1, found.kappa_low), min(1, found.kappa_upp)


def test_a_notebook_without_a_front_end_prints_the_pair_and_waits_for_nothing(root):
    """As papermill runs one: text, and no widget."""
    code = (
        "import os; os.environ['WORKBENCH_WIDGETS'] = '0'\n"
        f"{DECIDES}\nprint(review)\nreview.choose('skip')\nreview"
    )
    with kernel(root) as (_, client):
        printed, shown = run(client, code)
    assert "Left answer" in printed and 'Skip: review.choose("skip")' in printed
    assert set(shown) == {"text/plain"} and "1 of 20 pairs decided" in shown["text/plain"]
