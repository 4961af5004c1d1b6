"""The frame of the record keeps every character of texts, also within lists and objects."""

import orjson
import pytest

from workbench.records.columns import frame_of_lines

TEXTS = (
    'a "quote"', "two\nlines", "back\\slash", "a\\nb", "\\u0041", "bell \x07", '\\"', "[x", "{x", "[x]",
    '{"a":1}', "null", "", "ü😀\u2028",
)  # fmt: skip


def line(text: str, n: int = 0) -> dict:
    return {
        "at": "2026-11-30T10:00:00.000000+00:00", "trace_id": str(n), "purpose": text, "principal": text,
        "labels": {"prompt": text}, "hits": [{"id": text, "source": text, "tenant": "t", "score": 1.0}],
        "would_refuse": [text], "policy_request": orjson.dumps({"name": text}).decode(),
        "attempts": [{"n": n, "outcome": "ok"}],
    }  # fmt: skip


@pytest.mark.parametrize("text", TEXTS)
def test_a_frame_keeps_every_character_in_texts_lists_and_objects(text):
    written = line(text)
    frame, odd = frame_of_lines(orjson.dumps(written) + b"\n")
    row = frame.row(0, named=True)
    assert not odd and (row["purpose"], row["principal"]) == (text, text)
    assert orjson.loads(row["labels"]) == written["labels"] and row["would_refuse"] == [text]
    assert orjson.loads(row["policy_request"]) == {"name": text}
    assert row["hits"] == written["hits"] and row["attempts"][0]["outcome"] == "ok"


def test_lines_with_and_without_escapes_stay_in_their_order():
    texts = ["plain", *TEXTS, "plain too"] * 3
    lines = [orjson.dumps(line(text, n)) for n, text in enumerate(texts)]
    frame, odd = frame_of_lines(b"\n".join(lines))
    assert not odd and frame["trace_id"].to_list() == [str(n) for n in range(len(texts))]
    assert frame["purpose"].to_list() == texts
    torn, found = frame_of_lines(b"\n".join([*lines, b'{"torn":']))
    assert found == [b'{"torn":'] and torn.equals(frame)
