"""Read a YAML 1.2 text with bounds on its size, depth, nodes, aliases and digits."""

from __future__ import annotations

import functools
import math
import pickle
from decimal import Decimal
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.composer import Composer
from ruamel.yaml.constructor import ConstructorError, SafeConstructor
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import AliasEvent
from ruamel.yaml.reader import ReaderError
from ruamel.yaml.scanner import Scanner, ScannerError

from workbench.errors import ConfigError

#: A text of this many characters or nodes takes about a second to parse.
MOST_CHARACTERS = 500_000
MOST_NODES = 15_000
MOST_DEPTH = 60
#: More digits than any number of ours; Python refuses to convert more than 4,300.
_MOST_DIGITS = 400
#: A process parses a text of up to this many characters once, and keeps the values of this many texts.
_MOST_KEPT_CHARACTERS = 20_000
_KEPT = 256
#: The errors of the parser and of Python's types for a malformed scalar, such as a day that does not exist.
_MALFORMED = (ArithmeticError, AssertionError, AttributeError, LookupError, TypeError, ValueError)


class _Scanner(Scanner):
    """A scanner that bounds flow collections: it looks ahead through all of them before one is composed."""

    def fetch_flow_collection_start(self, TokenClass: Any, to_push: str) -> None:  # noqa: N803
        if len(self.flow_context) >= MOST_DEPTH:
            raise ScannerError(None, None, _TOO_DEEP, self.reader.get_mark())
        super().fetch_flow_collection_start(TokenClass, to_push)


class _Composer(Composer):
    """A composer that counts nodes; an alias counts as many nodes as it stands for."""

    def __init__(self, loader: Any = None) -> None:
        super().__init__(loader)
        self.warn_double_anchors = False
        self._nodes = 0
        self._sizes: dict[str, int] = {}

    def compose_node(self, parent: Any, index: Any) -> Any:
        event = self.parser.peek_event()
        anchor, is_alias = event.anchor, isinstance(event, AliasEvent)
        before = self._nodes
        if is_alias and anchor in self.anchors and anchor not in self._sizes:
            raise ConstructorError(None, None, f"the alias *{anchor} contains itself", event.start_mark)
        self._nodes += self._sizes.get(anchor, 1) if is_alias else 1
        if self._nodes > MOST_NODES:
            problem = f"more than {MOST_NODES} values, each alias counted as the values it stands for"
            raise ConstructorError(None, None, problem, event.start_mark)
        if not is_alias:
            self._sizes.pop(anchor, None)
        node = super().compose_node(parent, index)
        if anchor is not None and not is_alias:
            self._sizes[anchor] = self._nodes - before
        return node


class _Constructor(SafeConstructor):
    """A constructor that gives each malformed scalar a line."""

    def construct_non_recursive_object(self, node: Any, tag: str | None = None) -> Any:
        try:
            value = super().construct_non_recursive_object(node, tag)
        except _MALFORMED as error:
            problem = f"{_shortened(node.value)} cannot be read: {error}"
            raise ConstructorError(None, None, problem, node.start_mark) from None
        if isinstance(value, float) and not math.isfinite(value):
            problem = f"{_shortened(node.value)} is not a finite number"
            raise ConstructorError(None, None, problem, node.start_mark)
        if isinstance(value, float) and not _is_exact(str(node.value), value):
            problem = f"{_shortened(node.value)} is a decimal that no float holds exactly: write it as text"
            raise ConstructorError(None, None, problem, node.start_mark)
        return value

    def construct_yaml_int(self, node: Any) -> int:
        if len(node.value) > _MOST_DIGITS:
            problem = f"{_shortened(node.value)} has more than {_MOST_DIGITS} digits"
            raise ConstructorError(None, None, problem, node.start_mark)
        return int(super().construct_yaml_int(node))

    def construct_scalar(self, node: Any) -> Any:
        """Return the text of a scalar, in which two escapes may form one character, as in JSON."""
        text = super().construct_scalar(node)
        if not isinstance(text, str) or text.isascii():
            return text
        try:
            return text.encode("utf-16", "surrogatepass").decode("utf-16")
        except UnicodeDecodeError:
            problem = r"half of a surrogate pair: write \ud83d\ude00 or the character itself"
            raise ConstructorError(None, None, problem, node.start_mark) from None


_TOO_DEEP = f"nested deeper than {MOST_DEPTH} levels"
_Constructor.add_default_constructor("int")


def load(text: str, *, where: str, hint: str = "") -> Any:
    """Return the value of a YAML text; ConfigError names `where`, the line and the problem.

    The caller may change the value: the next call with the same text returns another one.
    """
    if len(text) > MOST_CHARACTERS:
        raise ConfigError(f"{where} has more than {MOST_CHARACTERS} characters", hint=hint)
    try:
        if len(text) > _MOST_KEPT_CHARACTERS:
            return _parsed(text)
        return pickle.loads(_pickled(text))  # noqa: S301  bytes of this process
    except _MalformedYamlError as error:
        raise ConfigError(f"{where}:{error}", hint=hint) from None


class _MalformedYamlError(Exception):
    """A text that is not YAML: its line and the problem."""


@functools.lru_cache(maxsize=_KEPT)
def _pickled(text: str) -> bytes:
    """Return the value of a text in bytes, of which a copy is made in a thousandth of the time of parsing."""
    return pickle.dumps(_parsed(text), pickle.HIGHEST_PROTOCOL)


def _parsed(text: str) -> Any:
    """Return the value of a text; _MalformedYamlError when it is malformed."""
    reader = YAML(typ="safe", pure=True)
    reader.Scanner, reader.Composer, reader.Constructor = _Scanner, _Composer, _Constructor
    reader.max_depth = MOST_DEPTH
    try:
        return reader.load(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        problem = str(error.problem or error.context or "not YAML").splitlines()[0]
        problem = _TOO_DEEP if problem.startswith("maximum depth") else problem
    except ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        problem = f"the character U+{error.character:04X} is not allowed in YAML"
    except (YAMLError, RecursionError, *_MALFORMED) as error:
        line, problem = reader.reader.line + 1, f"not YAML: {str(error).splitlines()[0]}"
    raise _MalformedYamlError(f"{line}: {problem[:300]}")


def _is_exact(text: str, value: float) -> bool:
    """Return whether a float is the decimal that its text says, to the last digit."""
    try:
        return len(text) < 17 or Decimal(text.replace("_", "")) == Decimal(repr(value))
    except ArithmeticError:
        return True  # not a decimal in Python's notation


def _shortened(value: Any) -> str:
    text = value if isinstance(value, str) else "a list or mapping"
    return repr(text if len(text) <= 40 else f"{text[:20]}…{text[-5:]}")
