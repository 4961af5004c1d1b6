"""The cases of the benchmark: what was found is still found, and benign lines stay clean."""

import pytest

from benchmarks import privacy
from workbench.ports.privacy import Detection
from workbench.privacy import CombinedDetector, PatternDetector

#: Values that the rules are known to miss, and benign lines that they are known to take for a name.
MISSED = {"030/23125-0", "C01X00T47"}
MISTAKEN = {"May Day", "Robot", "Philip Morris", "Angela"}
#: Most of Faker's values that are found may be lost by no change: the shares of docs/benchmarks.md.
FOUND = {
    "email": 1,
    "iban": 1,
    "ip": 1,
    "national_id": 0.95,
    "card": 0.9,
    "phone": 0.85,
    "person": 0.5,
    "address": 0.45,
}


def share(kind: str) -> float:
    cases = [case for case in privacy.drawn() if case[1][0][2] == kind]
    found = privacy.ours([text for text, _ in cases])
    hits = [
        any(each[0] <= spans[0][0] and each[1] >= spans[0][1] for each in findings)
        for (_, spans), findings in zip(cases, found, strict=True)
    ]
    return sum(hits) / len(hits)


@pytest.mark.parametrize("kind", FOUND)
def test_values_that_no_rule_was_written_for_are_found(kind):
    assert share(kind) >= FOUND[kind]


def test_cases_written_by_hand_are_found_but_for_those_that_are_known():
    missed = set()
    for text, spans in privacy.written():
        found = PatternDetector().find(text)
        for start, end, _ in spans:
            if not any(each.start <= start and each.end >= end for each in found):
                missed.add(text[start:end])
    assert missed == MISSED


def test_benign_lines_hold_nothing_but_the_known_mistakes():
    mistaken = set()
    for text, spans in privacy.written():
        if not spans:
            mistaken |= {text[each.start : each.end] for each in PatternDetector().find(text)}
    assert mistaken == MISTAKEN


def test_where_two_detectors_overlap_their_union_is_found_with_the_kind_that_wins():
    class Fixed:
        def __init__(self, *found):
            self.found = found

        def find(self, text):
            return self.found

    one = Fixed(Detection(start=0, end=4, kind="person"), Detection(start=9, end=12, kind="phone"))
    two = Fixed(Detection(start=3, end=7, kind="secret", data_class="secret"))
    assert CombinedDetector(one, two).find("x" * 12) == (
        Detection(start=0, end=7, kind="secret", data_class="secret"),
        Detection(start=9, end=12, kind="phone"),
    )
