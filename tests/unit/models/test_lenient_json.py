"""JSON is read as Python reads it, into values that every tape can store."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench import files
from workbench.models.lenient_json import check_depth, loads, loads_exactly, storable, whole_characters

SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(exclude_categories=[]))
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(exclude_categories=[])), inner),
    max_leaves=20,
)


@given(VALUES)
def test_whatever_python_writes_is_read_and_can_be_stored(value):
    data = json.dumps(value).encode()
    found = loads(data)
    assert json.loads(files.canonical(found)) == found
    assert loads(files.canonical(found)) == found


@given(st.text(st.characters(exclude_categories=[])))
def test_a_text_keeps_its_characters_and_loses_half_pairs_only(text):
    found = whole_characters(text)
    found.encode()
    joined = text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")
    assert found == "".join("\ufffd" if "\ud800" <= letter <= "\udfff" else letter for letter in joined)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (b"-Infinity", -9999.0),
        (b"-1e999", -9999.0),
        (b"Infinity", None),
        (b"1e999", None),
        (b"NaN", None),
        (b'"cut \\ud83d"', "cut \ufffd"),
        (b'"\\ud83d\\ude00"', "😀"),
        (b'"\\ude00\\ud83d"', "\ufffd\ufffd"),
        (b'{"\\ud83d": 1}', {"\ufffd": 1}),
        (b"\xef\xbb\xbf[1]", [1]),
        (b" \n[1]\r\n ", [1]),
        ("[1]".encode("utf-16"), [1]),
        (b"18446744073709551615", 2**64 - 1),
        (b"-9223372036854775808", -(2**63)),
        (b"18446744073709551616", float(2**64)),
        (b"123456789012345678901234567890", 1.2345678901234568e29),
        (b"[NaN, 18446744073709551616]", [None, float(2**64)]),
        (b'{"a": 1, "a": 2}', {"a": 2}),
        (b"0.1", 0.1),
        (b"1.0", 1.0),
    ],
)
def test_what_strict_json_does_not_hold(text, wanted):
    found = loads(text)
    assert found == wanted
    assert type(found) is type(wanted)


@pytest.mark.parametrize(
    "text", [b"", b"{", b'{"a": 1}\x00', b"[1] [2]", b"\xff", b"nan", b"<p>", b"1" * 5_000, b"'a'", b"[1,]"]
)
def test_what_python_does_not_read_is_a_value_error(text):
    for read in (loads, loads_exactly):
        with pytest.raises(ValueError, match=r"."):
            read(text)


@pytest.mark.parametrize("depth", [247, 300, 900, 5_000, 100_000])
@pytest.mark.parametrize("strange", [b"", b"NaN"])
def test_what_is_nested_deeper_than_a_tape_can_hold_is_a_value_error(depth, strange):
    for text in (b"[" * depth + strange + b"]" * depth, b'{"a":' * depth + (strange or b"1") + b"}" * depth):
        for read in (loads, loads_exactly):
            with pytest.raises(ValueError, match="nested too deep"):
                read(text)


def test_a_value_of_200_levels_is_read_and_stored():
    text = b"[" * 200 + b"NaN" + b"]" * 200
    found = loads(text)
    check_depth(text, found)
    assert files.canonical({"key": {"result": {"events": [found]}}})


def test_exact_reading_keeps_what_storing_replaces():
    value = loads_exactly(b'[123456789012345678901234567890, -Infinity, "\\ud83d"]')
    assert value == [123456789012345678901234567890, -math.inf, "\ud83d"]
    assert storable(value) == [1.2345678901234568e29, -9999.0, "\ufffd"]
