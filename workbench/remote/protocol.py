"""The native protocol: its version, its routes, its headers and its bounds."""

from __future__ import annotations

from typing import Final

#: The header that every request and every answer has, and its value.
HEADER: Final = "Workbench-Protocol"
VERSION: Final = "1"
#: The media type of an answer: one JSON object a line.
LINES: Final = "application/x-ndjson"
CALLS: Final = "/workbench/v1/calls"
#: Most bytes of a request and of one line of an answer.
MOST_BYTES: Final = 16 * 2**20
#: Most levels of a request: the controls read it level by level within Python's own limit.
MOST_LEVELS: Final = 200
