"""Classes of data, and what each may meet: models, recordings, logs and published tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final, Literal, get_args

from workbench import files
from workbench.config.forms import NAME, check_inside
from workbench.errors import ConfigError, nearest

#: Where the lists of own terms are.
LEXICA: Final = "pipelines/privacy"
#: What happens to data of a class at a destination.
DataAction = Literal["pass", "mask", "pseudonymise", "refuse"]
#: Where data goes: a model elsewhere or in this process, a recording of a call, a record or message, a table.
Destination = Literal["external", "embedded", "recordings", "logs", "outputs"]
#: The classes that are always there, the least sensitive first.
_BUILT_IN: Final[Mapping[str, tuple[DataAction, ...]]] = {
    "public": ("pass", "pass", "pass", "pass", "pass"),
    "internal": ("pass", "pass", "pass", "pass", "pass"),
    "personal": ("pseudonymise", "pass", "pseudonymise", "mask", "pass"),
    "secret": ("mask", "mask", "mask", "mask", "mask"),
}
_HINT: Final = "data_classes: {personal: {external: pseudonymise, logs: mask}}"


@dataclass(frozen=True, slots=True, kw_only=True)
class DataClass:
    """One entry of `data_classes`; a destination without an action has that of the class `like`.

    `like` is the class that an own class ranks with, and just above; `kinds` are kinds of detections that
    belong to the class.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = files.STRICT
    like: str | None = None
    kinds: tuple[str, ...] = ()
    external: DataAction | None = None
    embedded: DataAction | None = None
    recordings: DataAction | None = None
    logs: DataAction | None = None
    outputs: DataAction | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Privacy:
    """How a use case treats data of a class that a model may not see.

    With `enforce: observe` a request reaches the model as it is, and its record says what would have been
    done. Recordings and logs are protected in both ways.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = files.STRICT
    enforce: Literal["observe", "enforce"] = "enforce"


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnTerms:
    """The words of a repository that count as identifiers: `lexicon` is a text file of them, or None.

    `presidio` is the language that Presidio reads besides, and `gliner` the folder of a GLiNER model; a
    repository adds their packages to its dependencies.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = files.STRICT
    lexicon: str | None = None
    presidio: str | None = None
    gliner: str | None = None


def check_own_terms(terms: OwnTerms, *, where: str) -> None:
    """Raise ConfigError for a path outside of the repository, and for a list that no stage depends on."""
    for key in ("lexicon", "gliner"):
        if (stated := getattr(terms, key)) is not None:
            check_inside(stated, where=f"{where}.{key}")
    if terms.lexicon is not None and not terms.lexicon.startswith(f"{LEXICA}/"):
        raise ConfigError(
            f"{where}.lexicon is {terms.lexicon!r}, which is not in {LEXICA}",
            hint=f"move the list there, for example {LEXICA}/terms.txt: a change of it reruns the stages",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class DataRules:
    """The classes of a repository: the action of each at each destination, and their order."""

    actions: Mapping[str, Mapping[str, DataAction]]
    kinds: Mapping[str, str] = field(default_factory=dict)

    def action(self, data_class: str, destination: Destination) -> DataAction:
        """Return what happens to data of a class at a destination; an unknown class is refused."""
        found = self.actions.get(data_class)
        return "refuse" if found is None else found[destination]

    def class_of(self, kind: str, data_class: str) -> str:
        """Return the class of a detection: that which `kinds` names, else the detector's."""
        return self.kinds.get(kind, data_class)

    def highest(self, names: Iterable[str]) -> str:
        """Return the most sensitive of some classes; "" for none."""
        order = {name: number for number, name in enumerate(self.actions)}
        return max(names, key=lambda name: order.get(name, len(order)), default="")


def data_rules(stated: Mapping[str, DataClass]) -> DataRules:
    """Return the built-in classes with what params.yaml states; the entries are checked before."""
    rows: dict[str, dict[str, DataAction]] = {
        name: dict(zip(get_args(Destination), actions, strict=True)) for name, actions in _BUILT_IN.items()
    }
    order = [*rows]
    for name, entry in stated.items():
        like = name if name in _BUILT_IN else str(entry.like)
        rows[name] = {**rows[like], **_stated(entry)}
        if name not in order:
            order.insert(order.index(like) + 1, name)
    kinds = {kind: name for name, entry in stated.items() for kind in entry.kinds}
    return DataRules(actions={name: rows[name] for name in order}, kinds=kinds)


def check_data_classes(stated: Mapping[str, DataClass], *, where: str) -> None:
    """Raise ConfigError with the key for a class without a place in the order, or a kind of two classes."""
    known, owners = dict.fromkeys(_BUILT_IN), dict[str, str]()
    for name, entry in stated.items():
        place = f"{where}: data_classes.{name}"
        if not NAME.fullmatch(name):
            raise ConfigError(f"{place}: not a name of a class", hint="use letters, digits, - and _")
        if name in _BUILT_IN and entry.like is not None:
            raise ConfigError(f"{place}.like: {name!r} is a built-in class", hint="remove like")
        if name not in _BUILT_IN and entry.like not in known:
            raise ConfigError(
                f"{place}.like must name a built-in class or one above it, found {entry.like!r} "
                f"({nearest(str(entry.like), known)})",
                hint=f"{name}: {{like: personal, external: refuse}}",
            )
        for kind in entry.kinds:
            if owners.setdefault(kind, name) != name:
                raise ConfigError(
                    f"{place}.kinds: {kind!r} is also a kind of {owners[kind]!r}", hint="keep one of them"
                )
        known[name] = None


def _stated(entry: DataClass) -> dict[str, DataAction]:
    pairs = {name: getattr(entry, name) for name in get_args(Destination)}
    return {name: action for name, action in pairs.items() if action is not None}
