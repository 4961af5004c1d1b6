"""Tricks of Unicode hide no identifier, and a finding keeps its place in the original text."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench.folding import fold
from workbench.privacy import PatternDetector

DETECTOR = PatternDetector()
PLANTED = [
    ("card", "4111 1111 1111 1111"),
    ("email", "alice.moran@example.com"),
    ("iban", "DE89 3704 0044 0532 0130 00"),
    ("phone", "+44 20 7946 0958"),
    ("secret", "sk-proj-abcdefghij1234567890XYZ"),
    ("person", "Maria Garcia"),
]
WIDE = {code: code + 0xFEE0 for code in range(0x21, 0x7F)}
ARABIC = {0x30 + digit: 0x660 + digit for digit in range(10)}
BOLD = {0x30 + digit: 0x1D7CE + digit for digit in range(10)}
CYRILLIC = str.maketrans("aceopxyAEO", "\u0430\u0441\u0435\u043e\u0440\u0445\u0443\u0410\u0415\u041e")
GREEK = str.maketrans("oAEM", "\u03bf\u0391\u0395\u039c")
SPACES = {0x20: 0xA0, 0x2D: 0x2011}


def between(mark: str):
    return mark.join


TRICKS = {
    "full-width": lambda text: text.translate(WIDE),
    "Arabic digits": lambda text: text.translate(ARABIC),
    "bold digits": lambda text: text.translate(BOLD),
    "Cyrillic letters": lambda text: text.translate(CYRILLIC),
    "Greek letters": lambda text: text.translate(GREEK),
    "no-break spaces and hyphens": lambda text: text.translate(SPACES),
    "zero-width spaces": between("\u200b"),
    "zero-width joiners": between("\u200d"),
    "soft hyphens": between("\u00ad"),
    "combining marks": between("\u0301"),
    "bidirectional marks": between("\u202e\u202c"),
    "tags and variation selectors": between("\ufe0f\U000e0061"),
    "invisible letters": between("\u3164"),
}


@pytest.mark.parametrize("trick", TRICKS.values(), ids=TRICKS)
@pytest.mark.parametrize(("kind", "value"), PLANTED, ids=[kind for kind, _ in PLANTED])
def test_no_trick_hides_an_identifier(kind, value, trick):
    hidden = trick(value)
    text = f"It says {hidden} here."
    (found,) = DETECTOR.find(text)
    start = text.index(hidden)
    assert found.kind == kind
    assert (found.start, found.end) == (start, start + len(hidden))


def test_words_of_other_scripts_keep_their_form():
    for text in ("Привет, мир", "Καλημέρα κόσμε", "你好世界", "ünïcödé"):
        assert len(fold(text).text) == len(text)
    assert fold("Привет").text == "Привет"


@given(st.text(max_size=60))
def test_every_place_of_the_folded_text_has_one_in_the_original(text):
    folded = fold(text)
    assert folded.span(0, len(folded.text))[1] == len(text)
    spans = [folded.span(at, at + 1) for at in range(len(folded.text))]
    assert all(0 <= start < end <= len(text) for start, end in spans)
    assert all(one[1] <= two[0] for one, two in pairwise(spans))


@given(st.text(max_size=200))
def test_findings_are_sorted_apart_and_the_same_each_time(text):
    found = DETECTOR.find(text)
    assert found == PatternDetector().find(text)
    assert all(0 <= each.start < each.end <= len(text) for each in found)
    assert all(one.end <= two.start for one, two in pairwise(found))
