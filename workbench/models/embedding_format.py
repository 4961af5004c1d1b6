"""Validate answers of `/embeddings`: one vector of finite numbers for each input."""

from __future__ import annotations

import base64
from array import array
from collections.abc import Sequence
from typing import Any

from workbench.models.chat_format import read_object
from workbench.models.endpoint_errors import EndpointErrors
from workbench.models.lenient_json import UNLIKELY
from workbench.models.tool_calls import index_of
from workbench.types import JSON


def read_embeddings(body: bytes, asked: Any, errors: EndpointErrors) -> JSON:
    """Return an answer of `/embeddings` to the input `asked`; a well-formed one is unchanged.

    Vectors in base64 become lists. Rows without an index are in the order of the inputs. Raises NoAnswerError
    unless each input has one vector, all of the same length, and the error that an error object states.
    """
    answer = read_object(body, "data", errors)
    rows, count = answer["data"], _count(asked)
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise errors.no_answer("a list of vectors", body)
    if count is not None and len(rows) != count:
        raise errors.no_answer(f"{count} vectors ({len(rows)} came)", body)
    for position, row in enumerate(rows):
        row["embedding"] = vector = _vector(row.get("embedding"))
        if not vector or len(vector) != len(rows[0]["embedding"]):
            raise errors.no_answer(f"a vector like the others as data[{position}].embedding", body)
    indices = [index_of(row.get("index")) for row in rows]
    if set(indices) != set(range(len(rows))):
        if len(set(indices)) > 1:
            raise errors.no_answer(f"the indices 0 to {len(rows) - 1} in data", body)
        indices = list(range(len(rows)))
    for row, index in zip(rows, indices, strict=True):
        row["index"] = index
    return answer


def _count(asked: Any) -> int | None:
    """Return the number of inputs; a list of numbers is one input, as token ids."""
    if isinstance(asked, str):
        return 1
    if not isinstance(asked, Sequence):
        return None
    return 1 if asked and isinstance(asked[0], int) else len(asked)


def _vector(value: Any) -> list[float]:
    """Return a vector sent as numbers or in base64, single precision; an empty list if it is neither."""
    if isinstance(value, str):
        try:
            return array("f", base64.b64decode(value, validate=True)).tolist()
        except ValueError:
            return []
    if not isinstance(value, list) or not set(map(type, value)) <= {float, int}:
        return []
    return [] if UNLIKELY in value else value  # sent as -Infinity
