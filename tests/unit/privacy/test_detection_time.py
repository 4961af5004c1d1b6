"""A megabyte of anything is read in bounded time: twice the text takes about twice as long."""

import time

import pytest
from sizes import SOAK, drawn

from workbench.privacy import PatternDetector

DETECTOR = PatternDetector()
SIZE = 1_000_000 if SOAK else 50_000
#: Pieces of which patterns are made, repeated without end.
PIECES = [
    "a", "A", "1", "@", "a@", "a.", "a@a.", "1 ", "12 ", "123-", "(1) ", "+1 ", "+49 30 1234567 ",
    "phone 12345678 ", "ssn 123456789 ", "card 4111111111111 ", "Maria ", "Maria-", "M. ", "Mr ", "Aa ",
    "sk-", "eyJ", "eyJ-", "eyJa.eyJb.", "password=", "password is ", "key:", "-----BEGIN ",
    "-----BEGIN PRIVATE KEY-----", "://a:", "http://a:b@", "1.1.", "::", ":a", "0:", "12 rue de ",
    "12 A ", "12 Main ", "calle A ", "Hauptstraße ", "hauptstrasse 5 ", "name is ", "my name is a ",
    "DE89 ", "AA00", "000000A", "12345678Z ", "é", "\u0435", "a\u200b", "\u200b", "\uff11",
    "\u043e\u0439", "\u0430a", "_", "-", "\n", "Smith, ", "Smith, John ", "[at]", "%40", "4111 ", "((((",
    "AB 12 34 56 C ", "Bearer ", "hf_", "9 a", " 0AA", "A1", "Hoffmann ", "Anna Hoffmann ",
]  # fmt: skip


def seconds(text: str) -> float:
    began = time.process_time()
    DETECTOR.find(text)
    return time.process_time() - began


@pytest.mark.parametrize("piece", drawn(PIECES, 12))
def test_the_time_grows_with_the_text_and_no_faster(piece):
    text = (piece * SIZE)[:SIZE]
    seconds(text[:2_000])
    half, whole = min(seconds(text[: SIZE // 2]) for _ in range(2)), seconds(text)
    assert whole < 4 * half + 0.1, f"{piece!r}: {half:.2f} s became {whole:.2f} s"
    assert whole < SIZE / 1_000_000 * 30
