"""Scorers as params.yaml states them: built-ins with their options, and hashed Python files."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from workbench import files
from workbench.errors import ConfigError, WorkbenchError, nearest
from workbench.experiments import check_scorers
from workbench.experiments import scorers as built_in
from workbench.experiments.check_scorers import Find
from workbench.experiments.gate_spec import CONTAMINATED
from workbench.experiments.labels import human_scorer, label_bytes, labels_of
from workbench.experiments.metrics import ALWAYS, AMOUNTS, plain_name
from workbench.experiments.scorer_file import FOLDER, ScorerFile
from workbench.experiments.scorers import Scorer
from workbench.experiments.stated_path import inside
from workbench.layout import REVIEWS

#: The scorers of a use case that states none, if its cases have the usual columns; see `fitting`.
DEFAULT: Mapping[str, Any] = {
    "accuracy": "contains",
    "recall_at_5": {"recall_at": 5},
    "grounded": "grounded",
    "cross_tenant_hits": "cross_tenant_hits",
}
#: The built-in that needs a detector, and the one that reads a file of labels.
_LEAKS = "pii_leaks"
_HUMAN = "human"
_BUILT_IN: Mapping[str, Callable[..., Scorer]] = {
    "contains": built_in.contains,
    "exact": built_in.exact,
    "recall_at": built_in.recall_at,
    "ndcg_at": built_in.ndcg_at,
    "grounded": built_in.grounded,
    "cross_tenant_hits": built_in.cross_tenant_hits,
    "check_recall": check_scorers.check_recall,
    "check_false_alarms": check_scorers.check_false_alarms,
    "check_fires": check_scorers.check_fires,
}
_OF_CHECKS: Mapping[str, Any] = {"check": "instructions", "attack": "attack", "of": ""}
#: The options of each built-in with their defaults; `k` has none.
_OPTIONS: Mapping[str, Mapping[str, Any]] = {
    "contains": {"answers": "answers"},
    "exact": {"answers": "answers"},
    "recall_at": {"k": None, "page": "page"},
    "ndcg_at": {"k": None, "page": "page"},
    "grounded": {},
    "cross_tenant_hits": {},
    "check_recall": _OF_CHECKS,
    "check_false_alarms": _OF_CHECKS,
    "check_fires": {"check": "exfiltration", "of": ""},
    _LEAKS: {},
    _HUMAN: {"labels": None},
}
#: Names of other metrics, and the key of a gate that is not a line.
_TAKEN = frozenset({*ALWAYS, *AMOUNTS, CONTAMINATED, "confidence"})
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}")
_MOST_K = 100
_FILE = f"{FOLDER}/polite.py"
_LABELS = f"{REVIEWS}/answers/candidate-few_shot.jsonl"
_EXAMPLE = f"accuracy: contains, recall: {{recall_at: 5}} or polite: {_FILE}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ScorerSet:
    """The scorers that judge a use case, with the source of each by name."""

    scorers: tuple[Scorer, ...]
    sources: Mapping[str, Mapping[str, Any]] = field(repr=False)

    @classmethod
    def parse(
        cls,
        raw: Mapping[str, Any] | None,
        *,
        root: Path,
        where: str,
        default: Mapping[str, Any] = DEFAULT,
        find: Find | None = None,
    ) -> ScorerSet:
        """Return the scorers of the key `scorers` of params.yaml; None means `default`.

        A scorer file of the repository `root` is read and executed once. `find` is for `pii_leaks`. Raises
        ConfigError, prefixed with `where`, for an invalid name, form or file, and when neither `raw` nor
        `default` has a scorer.
        """
        if raw is None and not default:
            raise ConfigError(
                f"{where} is missing, and no default scorer fits cases that expect nothing",
                hint=f"write scorers: {{polite: {_FILE}}}, and a function `score` into that file",
            )
        if raw is not None and (not isinstance(raw, Mapping) or not raw):
            raise ConfigError(
                f"{where} must be a mapping of names to scorers, found {files.shortened(repr(raw))}",
                hint=f"write {_EXAMPLE}, or remove the key for the default scorers",
            )
        made: dict[str, Scorer] = {}
        sources: dict[str, Mapping[str, Any]] = {}
        loaded: dict[Path, ScorerFile] = {}
        for stated, value in (default if raw is None else raw).items():
            name, place = plain_name(str(stated)), f"{where}.{files.shortened(str(stated))}"
            _check_name(name, made, place)
            if isinstance(value, str) and (value.endswith(".py") or "/" in value):
                path = inside(root, value, folder=FOLDER, where=place, example=_FILE)
                if path not in loaded:
                    loaded[path] = ScorerFile.read(root, path, where=place)
                made[name] = Scorer(name=name, function=loaded[path].score)
                sources[name] = {"file": path.as_posix(), "sha256": loaded[path].sha256}
            else:
                kind, options = _stated(value, place)
                if kind == _HUMAN:
                    made[name], sources[name] = _of_labels(root, name, options, f"{place}.{kind}")
                    continue
                made[name] = replace(_built(kind, options, find, place), name=name)
                sources[name] = {kind: options}
        return cls(scorers=tuple(made.values()), sources=sources)

    def identity(self) -> dict[str, Any]:
        """Return each scorer's source by name: a built-in's options, or a file's path and SHA-256.

        Defaults are filled in, so that texts of the same meaning have the same identity.
        """
        return {name: dict(source) for name, source in self.sources.items()}

    @property
    def digest(self) -> str:
        """The SHA-256 of the identity, whatever the order of the names."""
        return files.digest(self.identity())


def stated_labels(raw: Mapping[str, Any] | None) -> list[str]:
    """Return the paths of the files of labels that the key `scorers` names, sorted, whether valid or not."""
    stated = [
        value[_HUMAN] for value in (raw or {}).values() if isinstance(value, Mapping) and _HUMAN in value
    ]
    found = {options["labels"] for options in stated if isinstance(options, Mapping) and "labels" in options}
    return sorted(path for path in found if isinstance(path, str))


def fitting(*, expected: Sequence[str], memory: bool) -> dict[str, Any]:
    """Return the scorers of a use case that states none, by the columns that its cases expect.

    Accepted answers are contained in the answer; any other value equals the answer, or the field of its name
    in a typed output. Without a memory nothing is searched, so no score of passages is among them.
    """
    labels = [column for column in expected if column != "page"]
    if "answers" in labels:
        found: dict[str, Any] = {"accuracy": DEFAULT["accuracy"]}
    elif len(labels) == 1:
        found = {"accuracy": {"exact": {"answers": labels[0]}}}
    else:
        found = {column: {"exact": {"answers": column}} for column in labels}
    if memory:
        searched = {name: form for name, form in DEFAULT.items() if name != "accuracy"}
        if "page" not in expected:
            del searched["recall_at_5"]
        found |= searched
    return found


def _check_name(name: str, others: Mapping[str, object], where: str) -> None:
    """Raise ConfigError unless `name` can name the metric of a gate's line and is new."""
    if name in others:
        problem = f"two scorers have the name {name!r}, with and without 'score.'"
    elif name in _TAKEN:
        problem = f"the name {name!r} has a meaning of its own in a gate"
    elif not _NAME.fullmatch(name):
        problem = f"{files.shortened(name)!r} cannot name a scorer"
    else:
        return
    hint = "choose another name: up to 63 letters, digits, - and _, such as accuracy"
    raise ConfigError(f"{where}: {problem}", hint=hint)


def _of_labels(
    root: Path, name: str, options: Mapping[str, Any], where: str
) -> tuple[Scorer, Mapping[str, Any]]:
    """Return the scorer of a file of labels, and its source with the SHA-256 of the bytes that were read."""
    where = f"{where}.labels"
    path = inside(root, options["labels"], folder=REVIEWS, where=where, example=_LABELS)
    try:
        data = label_bytes(root / path)
        scorer = human_scorer(labels_of(data, where=path.as_posix()), name=name)
    except WorkbenchError as error:
        raise ConfigError(f"{where}: {error.message}", hint=error.hint) from None
    return scorer, {_HUMAN: {"labels": path.as_posix(), "sha256": files.digest(data)}}


def _built(kind: str, options: Mapping[str, Any], find: Find | None, where: str) -> Scorer:
    if kind != _LEAKS:
        return _BUILT_IN[kind](**options)
    if find is None:
        raise ConfigError(f"{where}: {kind} needs a detector", hint="state it in params.yaml of a repository")
    return check_scorers.pii_leaks(find)


def _stated(value: Any, where: str) -> tuple[str, dict[str, Any]]:
    """Return the built-in that `value` states, and its options with defaults filled in."""
    kind: Any = value
    given: Any = {} if isinstance(value, str) else None
    if isinstance(value, Mapping) and len(value) == 1:
        kind, given = next(iter(value.items()))
    known = _OPTIONS.get(kind) if isinstance(kind, str) else None
    if known is None:
        shown, near = files.shortened(repr(value)), nearest(files.shortened(str(kind)), _OPTIONS)
        raise ConfigError(f"{where}: {shown} states no scorer ({near})", hint=f"for example {_EXAMPLE}")
    where = f"{where}.{kind}"
    if "k" in known and not isinstance(given, Mapping):
        given = {"k": given}
    if not isinstance(given, Mapping) or (given and not known):
        options = f"takes a mapping of {' and '.join(known)}" if known else "takes no options"
        shown = files.shortened(repr(given))
        raise ConfigError(f"{where} {options}, found {shown}", hint=f"for example {_EXAMPLE}")
    for key, option in given.items():
        _check_option(key, option, known, where)
    for key, example in (("k", "5"), ("labels", _LABELS)):
        if key in known and key not in given:
            raise ConfigError(f"{where}.{key} is missing", hint=f"for example {kind}: {{{key}: {example}}}")
    return kind, {**known, **given}


def _check_option(key: Any, option: Any, known: Mapping[str, Any], where: str) -> None:
    if key not in known:
        near = nearest(files.shortened(str(key)), known)
        raise ConfigError(
            f"{where}: unknown key {files.shortened(str(key))!r} ({near})", hint=f"for example {_EXAMPLE}"
        )
    shown = files.shortened(repr(option))
    if key == "k":
        if type(option) is not int or not 1 <= option <= _MOST_K:
            raise ConfigError(
                f"{where}.k must be a whole number from 1 to {_MOST_K}, found {shown}",
                hint="for example k: 5",
            )
    elif key == "labels":
        if not isinstance(option, str) or not option:
            raise ConfigError(
                f"{where}.labels must name a file of {REVIEWS}, found {shown}",
                hint=f"for example labels: {_LABELS}",
            )
    elif not isinstance(option, str) or not option:
        raise ConfigError(
            f"{where}.{key} must name a column of the dataset's expected values, found {shown}",
            hint=f"for example {key}: {known[key]}",
        )
