"""The shape of a text: its kinds of characters, place by place, which C code searches fast."""

from __future__ import annotations

from typing import Final

#: The half-open range and the kind of what was found.
Span = tuple[int, int, str]


def shape_of(data: bytes) -> bytes:
    """Return the shape of a text in ASCII: `0` for digits, `A` and `a` for letters.

    All other characters stand for themselves. Characters beyond ASCII have become `?`.
    """
    return data.translate(_SHAPE)


_SHAPE: Final = bytes.maketrans(
    bytes(range(48, 58)) + bytes(range(65, 91)) + bytes(range(97, 123)), b"0" * 10 + b"A" * 26 + b"a" * 26
)
