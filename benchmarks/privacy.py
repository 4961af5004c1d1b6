"""The detectors of identifiers: recall and false findings of each kind beside Presidio's, and their time.

The values of privacy_values.jsonl come from Faker and stand in the sentences below; privacy_hard.txt was
written by hand. Intervals are Wilson's at 95 %.
"""

from __future__ import annotations

import json
import re
import subprocess
import sysconfig
import timeit
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pydoc_data import topics

from benchmarks.measuring import ROOT, Row
from benchmarks.shares import Share
from workbench.privacy import PatternDetector

PRESIDIO = ROOT / ".venv-presidio" / "bin" / "python"
HERE = ROOT / "benchmarks"
#: Kinds that count as one, because the libraries draw the line elsewhere.
SAME = {"tax_number": "national_id"}
#: The word for the number that a locale's people have.
NUMBER_WORDS = {
    "en_US": "SSN", "en_IN": "Aadhaar", "de_DE": "SVNR", "fr_FR": "NIR", "es_ES": "DNI o NIE",
    "it_IT": "codice fiscale", "pt_BR": "CPF", "nl_NL": "BSN", "pl_PL": "PESEL",
    "sv_SE": "personnummer", "da_DK": "CPR",
    "cs_CZ": "identity number", "fi_FI": "hetu", "ro_RO": "CNP",
}  # fmt: skip
SENTENCES = {
    "person": ("We spoke to {} yesterday.", "{} will call back.", "The report was written by {}, see below."),
    "address": ("Please deliver it to {}.", "She moved to {} last year.", "Address: {}"),
    "phone": ("You can call {} until noon.", "Phone: {}", "We reached him at {} twice."),
    "email": ("Write to {} today.", "{} did not answer.", "From: {}"),
    "national_id": ("The {word} is {}.", "{word}: {}", "({word} {})"),
    "iban": ("Pay into {} please.", "IBAN: {}", "The account {} was closed."),
    "card": ("Card number: {}", "Charge my card {} please.", "It was paid with {} in March."),
    "ip": ("The request came from {} at noon.", "IP: {}", "{} was blocked."),
}
#: A text, and the range and kind of what is to be found in it.
Case = tuple[str, list[tuple[int, int, str]]]
Found = list[tuple[int, int, str]]


def wilson(hits: int, total: int) -> str:
    """A share in per cent with its interval."""
    if not total:
        return "-"
    low, high = Share(count=hits, of=total).interval
    return f"{100 * hits / total:.0f} % [{100 * low:.0f}, {100 * high:.0f}] of {total}"


def drawn() -> Iterator[Case]:
    """The values of Faker, each in a sentence."""
    with (HERE / "privacy_values.jsonl").open(encoding="utf-8") as lines:
        next(lines)
        for line in lines:
            row = json.loads(line)
            for at, value in enumerate(row["values"]):
                sentence = SENTENCES[row["kind"]][at % 3]
                sentence = sentence.replace("{word}", NUMBER_WORDS.get(row["locale"], "ID"))
                start = sentence.index("{}")
                yield sentence.replace("{}", value), [(start, start + len(value), row["kind"])]


def written() -> Iterator[Case]:
    """The cases that were written by hand; those without a value are benign."""
    for line in (HERE / "privacy_hard.txt").read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            yield marked(line.replace("\\u200b", "\u200b"))


def marked(line: str) -> Case:
    """A line without its marks, and what they mark."""
    text, spans, end = "", [], 0
    for match in re.finditer(r"\{\{(\w+)\|(.*?)\}\}", line):
        text += line[end : match.start()]
        spans.append((len(text), len(text) + len(match[2]), SAME.get(match[1], match[1])))
        text, end = text + match[2], match.end()
    return text + line[end:], spans


def benign() -> list[str]:
    """Benign lines: those by hand, the handbook's, and every fifth paragraph of Python's manual."""
    lines = [text for text, spans in written() if not spans]
    for page in sorted((ROOT / "data" / "handbook").rglob("*.md")):
        lines += [part for part in page.read_text(encoding="utf-8").split("\n\n") if part.strip()]
    manual = "\n\n".join(text for _, text in sorted(topics.topics.items())).split("\n\n")
    return lines + [part for part in manual if part.strip()][::5]


def ours(texts: list[str]) -> list[Found]:
    """What the detector of patterns finds."""
    detector = PatternDetector()
    return [[(each.start, each.end, each.kind) for each in detector.find(text)] for text in texts]


def theirs(texts: list[str]) -> tuple[list[Found], float]:
    """What Presidio finds without a model, and its seconds per text."""
    lines = "".join(json.dumps(text) + "\n" for text in texts)
    done = subprocess.run(
        [PRESIDIO, "-m", "benchmarks.privacy_presidio", sysconfig.get_path("purelib")],
        input=lines, capture_output=True, text=True, check=True, cwd=ROOT,
    )  # fmt: skip
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    return [[tuple(each) for each in found] for _, found in answers], sum(took for took, _ in answers)


def recall(cases: list[Case], found: list[Found]) -> dict[str, str]:
    """The share of values of each kind that were found whole, whatever kind they were taken for."""
    hits, total = Counter(), Counter()
    for (_, spans), findings in zip(cases, found, strict=True):
        for start, end, kind in spans:
            total[kind] += 1
            hits[kind] += any(each[0] <= start and each[1] >= end for each in findings)
    return {kind: wilson(hits[kind], total[kind]) for kind in total}


def false_findings(found: list[Found]) -> dict[str, str]:
    """The share of benign lines in which something of a kind was found."""
    hits = Counter(kind for findings in found for kind in {SAME.get(each[2], each[2]) for each in findings})
    return {kind: wilson(hits[kind], len(found)) for kind in {*hits, *SENTENCES, "secret"}}


def rows() -> Iterator[Row]:
    """All rows of the table, each when it has been measured."""
    for name, cases in (("Faker", list(drawn())), ("by hand", [case for case in written() if case[1]])):
        texts = [text for text, _ in cases]
        mine = recall(cases, ours(texts))
        other = recall(cases, theirs(texts)[0]) if PRESIDIO.exists() else {}
        for kind in sorted(mine):
            yield f"recall, {kind}, {name}", f"{mine[kind]}; Presidio {other.get(kind, '-')}", ""
    lines = benign()
    mine = false_findings(ours(lines))
    other = false_findings(theirs(lines)[0]) if PRESIDIO.exists() else {}
    for kind in sorted(mine):
        yield (
            f"benign paragraphs with a finding, {kind}",
            f"{mine[kind]}; Presidio {other.get(kind, '-')}",
            "",
        )
    yield from times()


def times() -> Iterator[Row]:
    """The time of 1,000 characters without a finding and with three."""
    prose = "Employees book travel with the agency. The limit is a fixed sum a day, and a receipt is kept. "
    clean = (prose * 11)[:1000]
    three = (
        f"{clean[:300]} ada@example.com {clean[:300]} 4111 1111 1111 1111 {clean[:280]} +44 20 7946 0958 "[
            :1000
        ]
    )
    for name, text, target in (("no finding", clean, "<= 12 µs"), ("three findings", three, "<= 120 µs")):
        detector = PatternDetector()
        assert len(detector.find(text)) == (3 if text is three else 0)
        took = (
            min(timeit.repeat(partial(detector.find, text), number=20, repeat=200)) / 20
        )  # short enough to be undisturbed
        beside = f"; Presidio {theirs([text] * 11)[1] / 11 * 1e6:,.0f} µs" if PRESIDIO.exists() else ""
        yield f"1,000 characters, {name}", f"{took * 1e6:.0f} µs{beside}", target
