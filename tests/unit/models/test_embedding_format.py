"""One vector for each input, whatever form a server gives it, or one clear error."""

from __future__ import annotations

import base64
import json
from array import array

import pytest
from wire_readers import ERRORS

from workbench.errors import NoAnswerError, UnavailableError
from workbench.models.embedding_format import read_embeddings

TEXTS = ["a", "b"]
PACKED = base64.b64encode(array("f", [1.0, 2.0]).tobytes()).decode()


def rows(*vectors, **more) -> dict:
    return {"data": [{"index": n, "embedding": vector} for n, vector in enumerate(vectors)], **more}


def read(answer, asked=TEXTS):
    body = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
    return read_embeddings(body, asked, ERRORS)


def vectors_of(answer, asked=TEXTS) -> list:
    return [row["embedding"] for row in sorted(read(answer, asked)["data"], key=lambda row: row["index"])]


def test_a_well_formed_answer_is_not_changed():
    answer = rows([1.0, 0.5], [2, 0], object="list", usage={"prompt_tokens": 2}, x=[1])
    assert read(answer) == answer


@pytest.mark.parametrize(
    "data",
    [
        [{"embedding": [1.0]}, {"embedding": [2.0]}],
        [{"index": None, "embedding": [1.0]}, {"index": None, "embedding": [2.0]}],
        [{"index": 0, "embedding": [1.0]}, {"index": 0, "embedding": [2.0]}],
        [{"index": 1, "embedding": [2.0]}, {"index": 0, "embedding": [1.0]}],
        [{"index": "1", "embedding": [2.0]}, {"index": 0.0, "embedding": [1.0]}],
        [{"index": [], "embedding": [1.0]}, {"index": {}, "embedding": [2.0]}],
    ],
)
def test_the_order_of_the_inputs(data):
    assert vectors_of({"data": data}) == [[1.0], [2.0]]


def test_base64_is_unpacked():
    assert vectors_of(rows(PACKED, [3.0, 4.0])) == [[1.0, 2.0], [3.0, 4.0]]


@pytest.mark.parametrize(
    ("asked", "count"), [("a", 1), (["a"], 1), (["a", "b", "c"], 3), ([1, 2, 3], 1), ([[1], [2]], 2)]
)
def test_as_many_vectors_as_inputs(asked, count):
    assert len(vectors_of(rows(*[[1.0]] * count), asked)) == count
    for other in (count - 1, count + 1):
        with pytest.raises(NoAnswerError, match=f"{count} vectors"):
            read(rows(*[[1.0]] * other), asked)


@pytest.mark.parametrize(
    "answer",
    [
        rows([1.0], None),
        rows([1.0], []),
        rows([1.0], [1.0, 2.0]),
        rows([1.0], [None]),
        rows([1.0], ["1"]),
        rows([1.0], [True]),
        rows([1.0], [[1.0]]),
        rows([1.0], {"0": 1.0}),
        rows([1.0], 1.0),
        rows("AAA", "AAA"),
        rows("AAAA", "AAAA"),
        rows("ü", "ü"),
        rows([1.0], [float("nan")]),
        rows([1.0], [float("inf")]),
        {"data": [{"index": 0, "embedding": [1.0]}, {"index": 2, "embedding": [1.0]}]},
        {"data": [[1.0], [2.0]]},
        {"data": [None, None]},
        {"data": {}},
        {"data": "x"},
        {"data": None},
        {"embeddings": [[1.0]]},
        [],
        b"<html>",
    ],
)
def test_what_is_no_vector_is_one_error(answer):
    with pytest.raises(NoAnswerError, match="answered 200, but not with") as caught:
        read(answer)
    assert caught.value.reason == "malformed"
    assert not caught.value.retryable


def test_a_vector_of_minus_infinity_is_no_number_of_ours():
    with pytest.raises(NoAnswerError, match="vector"):
        read(rows([1.0], [float("-inf")]))


def test_an_answer_cut_off_and_an_error():
    with pytest.raises(UnavailableError):
        read(b'{"data": [{"index": 0, "embedding": [1.0, ')
    with pytest.raises(UnavailableError, match="503: busy"):
        read({"error": {"message": "busy", "code": 503}})
