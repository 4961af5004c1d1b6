"""64 threads of each of 4 processes race for one budget while some of the processes are killed."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import sizes
from postgres_server import PASSWORD, postgres  # noqa: F401 - a fixture

RACE = Path(__file__).resolve().parents[1] / "support" / "budget_race.py"
#: Schedules of each part, and the parts of all 200 schedules.
PART, PARTS = 5, 40
CHOSEN = range(PARTS) if sizes.SOAK else [sizes.SEED % PARTS]


def races(where: str, part: int) -> list[dict]:
    command = [sys.executable, RACE, where, PASSWORD, str(part * PART), str((part + 1) * PART)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def check(results: list[dict]) -> None:
    assert len(results) == PART
    assert [result for result in results if result["wrong"]] == []


@pytest.mark.parametrize("part", CHOSEN)
def test_no_budget_slips_leaks_or_refuses_what_fits_in_sqlite(tmp_path, part):
    check(races(str(tmp_path / "budgets.sqlite"), part))


@pytest.mark.parametrize("part", CHOSEN)
def test_no_budget_slips_leaks_or_refuses_what_fits_in_postgres(postgres, part):  # noqa: F811
    check(races(postgres.url, part))
