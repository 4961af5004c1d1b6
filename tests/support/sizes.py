"""How much the tests try: a sample in every run, all of it under WORKBENCH_SOAK=1, which `make soak` sets.

| | every run | `make soak` |
|---|---|---|
| attempts to read another's items, for each store | 1,000 | 10,000 |
| random and changed API keys | 1,000 | 10,000 |
| steps of a compaction of calls that kill it | a third | all |
| kill points of run, publish, rollback, the pipeline, and served jobs | 2 of each test's own | all |
| kill points of promote | 1, and one while DVC runs | all |
| generated examples of a property | a fifth, 10 at least | all |
| bytes of an audit log that are changed | a seventh | all |
| bytes of an envelope, and of each file of an export of evidence, that are changed | 150, and 6 | all |
| statements that are signed and verified in time | 100 | 1,000 |
| time of the year that a server fires beside systemd, in each of five zones | 3 days | a year |
| generated examples of a sentence of the memory's contract, for each store | 2 to 6 | 4 to 20 |
| generated histories of a store | 3 to 10 | 500 |
| generated answers of a model's endpoint, whole and streamed each | 200 | 20,000 |
| items among which the few visible are found | 12,000 | 100,000 |
| rows whose time is bounded; clean sets without a false alarm | a sixth to a third | all |
| questions that are searched exactly on two stores | an eighth | all |
| calls over a first model that fails and hangs | 400 | 5,000 |
| calls with planted identifiers and secrets, through faults and errors | 300 | 1,000 |
| questions that the embedded model is asked, of those that ship | 3 | 30 |
| answers of the page on own documents that the embedded model gives anew | 1 | 25 |
| recorded decisions that a draft of the policies decides again | 200 | 2,000 |
| lines of a schedule whose year is looked through minute by minute | 2 | 4 |
| schedules of the race for one budget, for each ledger | 5 | 200 |
| malformed requests to the gateway | 136 | 1,000 |
| attempts of one tenant over HTTP, each with its twin | 140 | 10,000 |
| schedules of kills of a gateway and its callers | 8 | 200 |
| streams under which a gateway is killed | 40 | 200 |
| long tests of a family, marked `drawn`: one way with several inputs, or held by cheaper tests | some | all |

WORKBENCH_SEED chooses the kill points and the tests of a family. A run prints its seed; the same seed
chooses the same. Nothing else reads the two variables.
"""

from __future__ import annotations

import os
import random
import secrets
from collections.abc import Sequence
from typing import TypeVar

from hypothesis import settings

T = TypeVar("T")
SOAK = os.environ.get("WORKBENCH_SOAK") == "1"
#: The workers of xdist inherit what the first process drew.
SEED = int(os.environ.setdefault("WORKBENCH_SEED", str(secrets.randbelow(10_000))))
ATTEMPTS = 10_000 if SOAK else 1_000
MANY = 100_000 if SOAK else 12_000
PLANTED = 1_000 if SOAK else 300
QUESTIONS = 30 if SOAK else 3


def examples(full: int) -> int:
    """How many of a property's examples this run generates."""
    return full if SOAK else min(full, max(10, full // 5))


def streams() -> int:
    """How many answers of an endpoint this run generates."""
    return 20_000 if SOAK else 200


def histories(sample: int) -> int:
    """How many histories of a store this run generates, of which `sample` are enough for every run."""
    return 500 if SOAK else sample


def kill_points(points: Sequence[T]) -> list[T]:
    """Two of the points where a test kills, in their order, or all of them."""
    return drawn(points, 2)


def drawn(values: Sequence[T], number: int) -> list[T]:
    """Return this number of the values, which the seed chooses, in their order, or all of them."""
    if SOAK or len(values) <= number:
        return list(values)
    chosen = random.Random(SEED).sample(range(len(values)), number)
    return [values[index] for index in sorted(chosen)]


def left_to_soak(items: Sequence) -> list:
    """Return the tests that this run leaves out: `drawn(family, number)` marks how many of a family it takes.

    The seed chooses them, of those that were collected: a test that is named alone is always run.
    """
    families: dict[str, list] = {}
    for item in items:
        mark = item.get_closest_marker("drawn")
        if mark is not None and not SOAK:
            families.setdefault(mark.args[0], []).append((item.nodeid, mark.args[1], item))
    left = []
    for family, members in families.items():
        members.sort(key=lambda member: member[0])
        number = min(members[0][1], len(members))
        taken = random.Random(f"{SEED} {family}").sample(range(len(members)), number)
        left += [item for index, (_, _, item) in enumerate(members) if index not in taken]
    return left


def header() -> str:
    """The size and the seed of this run, for its header."""
    return f"size: {'soak' if SOAK else 'sample'}, WORKBENCH_SEED={SEED}"


def limit_examples(items: list) -> None:
    """Give every property among the items the number of examples of this run."""
    functions = {getattr(item.obj, "__func__", item.obj) for item in items if hasattr(item, "obj")}
    for function in functions:
        full = getattr(function, SETTINGS, None)
        if full is not None:
            setattr(function, SETTINGS, settings(full, max_examples=examples(full.max_examples)))


#: Where hypothesis keeps the settings of a property. tests/unit/test_sharing.py notices when it moves.
SETTINGS = "_hypothesis_internal_use_settings"
