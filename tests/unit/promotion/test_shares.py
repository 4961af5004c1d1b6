"""A canary's share: stable, without overlap, and merged into one output."""

from __future__ import annotations

import json

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench.experiments.inputs import InputRow, read
from workbench.jobs.shares import Share, divided, merge_outputs, merged_counts

ids = st.lists(st.text(min_size=1, max_size=8), unique=True, max_size=30)


def rows(names, tenant="acme"):
    return [InputRow(number=n, columns={"id": name, "tenant": tenant}) for n, name in enumerate(names, 1)]


@given(ids, st.floats(0.01, 0.5))
def test_a_larger_share_keeps_the_rows_of_a_smaller_one(names, share):
    less, more = Share(salt="answers@8", share=share), Share(salt="answers@8", share=share + 0.4)
    for row in rows(names):
        assert less.takes(row) == less.takes(row)
        assert more.takes(row) or not less.takes(row)


def test_the_share_is_kept_and_each_rollout_draws_anew():
    names = [f"r-{n}" for n in range(4_000)]
    chosen = [{n for n in names if Share(salt=salt, share=0.1).takes_key(n)} for salt in ("a@1", "a@2")]
    for part in chosen:
        assert 320 < len(part) < 480
    assert len(chosen[0] & chosen[1]) < 100


def test_tenants_are_taken_whole_and_a_row_without_a_key_is_productions():
    share = Share(salt="answers@8", share=0.5, unit="tenant")
    names = [f"t{n}" for n in range(40)]
    taken = {name: {share.takes(row) for row in rows(["1", "2", "3"], tenant=name)} for name in names}
    assert all(len(found) == 1 for found in taken.values()) and len({*map(str, taken.values())}) == 2
    whole = Share(salt="answers@8", share=0.999999)
    assert not whole.takes(InputRow(number=1, columns={}, fault="not JSON", text="{"))
    assert not Share(salt="s", share=0.999999, unit="tenant").takes(rows(["1"], tenant="")[0])


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_an_input_is_divided_without_loss_and_without_overlap(tmp_path, suffix):
    source = tmp_path / f"rows{suffix}"
    given = [{"id": f"r-{n}", "tenant": "acme" if n % 2 else "globex", "question": "ä?"} for n in range(60)]
    if suffix == ".parquet":
        pl.DataFrame(given).write_parquet(source)
    else:
        lines = [json.dumps(row, ensure_ascii=False) for row in given]
        source.write_text("\n".join([*lines[:7], "", "{broken", *lines[7:]]), encoding="utf-8")
    known = {row.number: row for row in read(source)}
    parts = divided(source, Share(salt="answers@8", share=0.3))
    assert sorted(parts[0].numbers + parts[1].numbers) == sorted(known)
    for place, part in enumerate(parts):
        path = tmp_path / f"part-{place}{suffix}"
        path.write_bytes(part.data)
        assert [row.columns for row in read(path)] == [known[number].columns for number in part.numbers]
        assert len(part.numbers) > 5
    canary, rest = divided(source, Share(salt="answers@8", share=0.3), tenant="acme")
    assert {known[n].tenant for n in (*canary.numbers, *rest.numbers)} <= {"acme", ""}


def test_the_outputs_of_both_are_one_output_with_the_numbers_of_the_whole_input(tmp_path):
    broken = {"id": "", "tenant": "", "kind": "input", "reason": "no", "columns": "{}"}
    for name, ids_, row in (("canary", ["b"], 1), ("rest", ["a", "c"], 2)):
        folder = tmp_path / name
        folder.mkdir()
        pl.DataFrame({"id": ids_, "tenant": ["acme"] * len(ids_), "text": ids_}).write_parquet(
            folder / "answers.acme.parquet"
        )
        pl.DataFrame([{"row": row, **broken}]).write_parquet(folder / "quarantine.parquet")
    merge_outputs({tmp_path / "canary": [5, 6], tmp_path / "rest": [1, 2, 3, 4]}, tmp_path / "out")
    assert pl.read_parquet(tmp_path / "out/answers.acme.parquet")["id"].to_list() == ["a", "b", "c"]
    assert pl.read_parquet(tmp_path / "out/quarantine.parquet")["row"].to_list() == [2, 5]


def test_counts_are_summed_and_what_one_does_not_know_is_unknown():
    found = merged_counts(
        [
            {"rows": 3, "answered": 2, "cost_usd": 0.5, "held": False, "fallback": 1},
            {"rows": 1, "answered": 1, "cost_usd": None, "held": True},
        ]
    )
    assert found == {"rows": 4, "answered": 3, "cost_usd": None, "held": True, "fallback": 1}
