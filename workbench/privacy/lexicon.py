"""Read lists of names: those of the package, and the list that a user keeps.

A user's list is a text file with one term a line. A line `[kind]` gives the kind of the lines below it, by
default `person`; lines that begin with `#` are comments.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Final

from workbench.errors import ConfigError
from workbench.folding import fold

#: Most bytes of a user's list, and most characters of one of its terms.
_MOST_BYTES: Final = 4_000_000
_MOST_TERM: Final = 200
_KIND: Final = re.compile(r"\[([a-z][a-z0-9_]{0,29})\]")


@functools.cache
def names(kind: str) -> frozenset[str]:
    """Return a list of words of the package, in the folded form: the file of that name in `lexicon/`."""
    text = resources.files("workbench.privacy").joinpath("lexicon", f"{kind}.txt").read_text("utf-8")
    return frozenset(word for line in text.split("\n") if not line.startswith("#") for word in line.split())


def read(path: Path) -> Mapping[str, str]:
    """Return the terms of a user's list in the folded form, each with its kind.

    Raise ConfigError when the file is missing, too large, not UTF-8, or has a line that is no term.
    """
    try:
        data = path.read_bytes() if path.stat().st_size <= _MOST_BYTES else None
        text = None if data is None else data.decode()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"the list of names {path} cannot be read: {error}",
            hint="name a text file in UTF-8 under `privacy: {lexicon: FILE}` in params.yaml",
        ) from None
    if text is None:
        raise ConfigError(
            f"the list of names {path} is too large", hint=f"at most {_MOST_BYTES} bytes are read"
        )
    return _terms(path, text)


def _terms(path: Path, text: str) -> dict[str, str]:
    kind, terms = "person", {}
    for number, line in enumerate(text.lstrip("\ufeff").split("\n"), start=1):
        term = line.strip()
        if not term or term.startswith("#"):
            continue
        if term.startswith("["):
            if (heading := _KIND.fullmatch(term)) is None:
                raise ConfigError(
                    f"{path}, line {number}: {term[:40]!r} names no kind",
                    hint="write [customer], for example",
                )
            kind = heading[1]
            continue
        folded = " ".join(fold(term).text.split())
        if not 2 <= len(folded) <= _MOST_TERM or not folded[0].isalnum():
            raise ConfigError(
                f"{path}, line {number}: {term[:40]!r} is no term",
                hint=f"a term begins with a letter or digit and has 2 to {_MOST_TERM} characters",
            )
        terms[folded] = kind
    return terms
