"""Generate draft cases from documents: a sentence with a number, date or name becomes a question.

This file is the code of the asset `generator/cases`. It needs the standard library alone, and version N is
kept as `pipelines/generators/cases/N.py`, byte for byte: save a change of what it drafts as the next version.
The same pages and the same seed give the same cases on every machine.
"""

# ruff: noqa: RUF001  (quotes and dashes as documents have them)

from __future__ import annotations

import hashlib
import itertools
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

NAME, VERSION = "cases", 1
#: Sentences with other numbers of words, or with more characters, are left out.
_WORDS = (6, 45)
_MOST_CHARACTERS = 500
#: Questions of one page, and characters before the end of a sentence that tell an abbreviation.
_MOST_OF_PAGE, _NEAR = 2_000, 24
#: The words of a sentence of which a name is left out.
_MOST_GAPPED = 30
#: Words of more than three letters that a question keeps beside what it asks for.
_LEAST_CONTENT = 4
#: An answer may stand on one in this many pages of its tenant.
_SHARE = 5

_MONTH = (
    r"(?:Jan(?:uary|uar)?|Feb(?:ruary|ruar)?|March|März|Apr(?:il)?|May|Mai|June|Juni|July|Juli|Aug(?:ust)?"
    r"|Sept?(?:ember)?|Oct(?:ober)?|Oktober|Nov(?:ember)?|Dec(?:ember)?|Dezember)\b"
)
_NUMBER = (
    r"(?<![\w.,:/+-])\d{1,3}(?:[,.' ]\d{3})+(?:[.,]\d{1,2})?(?![\w/])"
    r"|(?<![\w.,:/+-])\d+(?:[.,]\d+)?(?![\w/:-])"
)
_SPELT = (
    r"\b(?:two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|thirteen|fourteen|fifteen|sixteen"
    r"|eighteen|twenty|thirty|forty|fifty|sixty|seventy|eighty|ninety"
    r"|zwei|drei|vier|fünf|sechs|sieben|acht|neun|zehn|elf|zwölf|zwanzig|dreißig)\b"
)
_MONEY = r"(?:[Ee]uros?|dollars?|pounds?|francs?|cents?|pence|Franken|EUR|USD|CHF|GBP|€|\$|£)(?!\w)"
_MANY = r"(?: (?:thousand|million|billion|Millionen|Milliarden))?"
_OCLOCK = r"(?: (?:o'clock|am|pm|a\.m\.|p\.m\.|Uhr)(?!\w))"
#: A plural noun, with an adjective where the first word is none.
_PLURAL = r"(?:[a-z][a-z-]{2,20} )??(?:[a-z]{2,20}s|people|children|men|women|feet)\b"
_NAMED = r"(?:[A-ZÄÖÜÀ-ÞŁŚŻ][\w'’&-]*)(?: (?:of |the |de |von )?[A-ZÄÖÜÀ-ÞŁŚŻ][\w'’&-]*){0,3}"
_NOUN = (
    r"(?:band|channel|class|code|desk|extension|form|gate|hall|level|line|number|plan|platform|program|programme"
    r"|project|room|sheet|stage|system|tariff|team|tool|track|zone)"
)
_ARTICLE = r"(?:\b(?:the|an?) (?:[a-z]{2,20} )?)?"
_CODE = r"(?P<span>\b[A-Z]{1,6}-\d{1,6}\b)"
#: What is asked for, best first: a pattern whose group `span` is the answer, and the words in its place.
#: A group `lead` in front of the span is replaced too.
_KINDS: Sequence[tuple[str, re.Pattern[str], str]] = tuple(
    (kind, re.compile(pattern), words)
    for kind, pattern, words in (
        (
            "money",
            rf"(?P<span>(?:€|\$|£|(?:EUR|USD|CHF|GBP) ?)(?:{_NUMBER}|\d[\d.,]*\d|\d){_MANY})",
            "how much",
        ),
        ("money", rf"(?P<span>(?:{_NUMBER}|{_SPELT}){_MANY} ?{_MONEY})", "how much"),
        (
            "percent",
            rf"(?P<span>(?:{_NUMBER}|{_SPELT}) ?(?:%|percent\b|per cent\b|Prozent\b))",
            "what percentage",
        ),
        ("date", r"(?P<span>\b\d{4}-\d{2}-\d{2}\b|\b\d{1,2}\.\d{1,2}\.\d{4}\b)", "which date"),
        ("date", rf"(?P<span>\b\d{{1,2}}(?:st|nd|rd|th|\.)? (?:of )?{_MONTH}(?: \d{{4}})?)", "which date"),
        (
            "date",
            rf"(?P<span>\b{_MONTH} \d{{1,2}}(?:st|nd|rd|th)?(?:, \d{{4}})?\b(?![:.]\d))",
            "which date",
        ),
        (
            "month",
            rf"(?<=\bin |\bof |\bby )(?P<span>(?!May\b|Mai\b){_MONTH}(?: \d{{4}})?)",
            "which month",
        ),
        (
            "time",
            rf"(?P<span>(?:\b\d{{1,2}}[:.]\d{{2}}|{_SPELT}|\b\d{{1,2}}){_OCLOCK}|\b\d{{1,2}}:\d{{2}}\b)",
            "what time",
        ),
        ("year", r"(?<=\bin |\bby |\bof )(?P<span>(?:19|20)\d{2})\b(?! ?[%\w])", "which year"),
        (
            "name",
            rf"\b(?:called|named|known as)(?P<lead> (?:the |an? )?| [\"“'])(?P<span>{_NAMED})[\"”']?",
            " what",
        ),
        ("code", rf"(?P<lead>{_ARTICLE}\b(?P<noun>{_NOUN}) )(?:{_CODE})", "which {noun}"),
        ("code", rf"(?P<lead>{_ARTICLE}\b(?P<noun>{_NOUN}) )(?P<span>{_NAMED})", "which {noun}"),
        (
            "code",
            rf"(?P<lead>\b(?:the|an?) (?:[a-z]{{2,20}} )?(?P<noun>[a-z]{{3,20}}) ){_CODE}",
            "which {noun}",
        ),
        ("code", _CODE, "which code"),
        (
            "number",
            rf"(?P<span>(?:{_NUMBER}|{_SPELT}) (?P<unit>{_PLURAL}))(?![-'’])",
            "how many {unit}",
        ),
        ("Zahl", rf"(?P<span>(?:{_NUMBER}|{_SPELT}) (?P<unit>[A-ZÄÖÜ][a-zäöüß]{{2,20}}\b))", ""),
    )
)
#: A term and what it is. The last group is asked for the first.
_DEFINITION = re.compile(
    r"(?P<lead>(?:An?|The) )?(?!(?:If|When|While|For|In|As|Since|Each|Every|All|Some|Any|No|One|What|Which"
    r"|Who|There|You|We|On|At|By|To|After|Before|With|Not|Only)\b)"
    r"(?P<span>[^\W\d_][\w'’-]*(?: [\w'’-]+){0,2}) "
    r"(?:is|are|means|denotes|refers to) (?P<rest>(?:an?|the|any) .{20,200}?)[.;:]?"
)
#: A name of a programming language or a file in quotes.
_LITERAL = re.compile(r"(?P<quote>``?|\")(?P<span>[A-Za-z_.\-][\w.\-]{2,30}(?:\(\))?)(?:``?|\")")
_UNITS_NOT = frozenset({
    "als", "always", "and", "are", "as", "auf", "aus", "bei", "billion", "bis", "but", "can", "das", "dem",
    "den", "der", "des", "die", "digits", "does", "ein", "eine", "euro", "euros", "for", "from", "has",
    "have", "her", "his", "hundred", "into", "its", "may", "million", "minus", "mit", "must", "nach", "not",
    "oder", "of", "off", "one", "ones", "only", "other", "others", "out", "over", "per", "percent", "plus",
    "that", "the", "their", "them", "then", "they", "this", "those", "thousand", "times", "uhr", "und",
    "vom", "von", "vor", "was", "were", "which", "who", "wie", "will", "with", "you", "zum", "zur",
})  # fmt: skip
#: A number after such words is no fact of its own: "all three cases", "one or two letters".
_REFERRING = re.compile(r"\b(?:all|the|these|those|any|last|first|other|or|both|its|their|[A-Z][\w.]*) $")
#: A sentence or clause that begins like this depends on the one before.
_DEPENDENT = re.compile(
    r"(?:it|its|they|their|this|these|that|those|he|she|his|her|such|both|then|also|however|but|and|or|so"
    r"|otherwise|therefore|instead|here|see|note|er|sie|es|dies|diese[rsmn]?|dabei|dazu|daher|außerdem)\b",
    re.IGNORECASE,
)
_ENGLISH = re.compile(
    r"\b(?:the|of|and|is|are|has|have|may|must|can|for|to|with|by|from|at|on|a|be|every|than|not|only)\b",
    re.IGNORECASE,
)
_GERMAN = re.compile(
    r"\b(?:der|die|das|und|ist|sind|hat|haben|darf|muss|kann|für|mit|von|bei|auf|ein|eine|pro|jede[rns]?|nur"
    r"|höchstens|mindestens|zur|zum|nach|bis|nicht|vor)\b",
    re.IGNORECASE,
)
_TAIL = re.compile(
    r", (?:and|but|because|so|while|unless|although|which|where|who|when|if|und|aber|weil|wenn|sofern)\b"
    r"|[;:] | — | – "
)
_ABBREVIATED = re.compile(
    r"(?:\b(?:e\.g|i\.e|z\. ?B|d\. ?h|bzw|ca|approx|No|Nr|Dr|Mr|Mrs|Ms|Prof|St|vs|cf|etc|inkl|Abs|Art|Fig)"
    r"|\b[^\W\d_])\.$"
)
_END = re.compile(r"[.!?][\"”»)\]]*\s+(?=[\"“„«(\[]?(\w))")
_ITEM = re.compile(r"\s{0,12}(?:[-*+•]|\d{1,3}[.)])\s+")
_RULE = re.compile(r"[=*~^#_-]{4,}|::|^\s*>>>|^\s*\.\.\.")
#: The characters of the line below the head of a table.
_SEPARATOR = frozenset(" \t|:-")


class CasePage(Protocol):
    """A page: `source` is its name within its tenant, and `text` its whole text."""

    @property
    def source(self) -> str:
        """Return the page's name."""

    @property
    def title(self) -> str:
        """Return the page's title."""

    @property
    def tenant(self) -> str:
        """Return the page's tenant."""

    @property
    def text(self) -> str:
        """Return the page's text."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DraftedCase:
    """One drafted case; `sentence` is the place of its page that answers the question."""

    id: str
    tenant: str
    page: str
    question: str
    answers: tuple[str, ...]
    sentence: str
    seed: int

    def row(self) -> dict[str, Any]:
        """Return the case as a row of a dataset, with its provenance."""
        own = {"id": self.id, "tenant": self.tenant, "question": self.question, "page": self.page}
        made = {"synthetic": True, "generator": NAME, "generator_version": VERSION, "seed": self.seed}
        return {**own, "answers": list(self.answers), **made}


@dataclass(frozen=True, slots=True, kw_only=True)
class DraftedCases:
    """Drafted cases in their order, and the reasons for fewer than were wanted."""

    cases: tuple[DraftedCase, ...]
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Candidate:
    page: CasePage = field(repr=False)
    question: str
    answer: str
    sentence: str
    rank: tuple[int, int]

    @property
    def key(self) -> tuple[str, str]:
        return self.page.tenant, _plain(self.question)


def draft(pages: Iterable[CasePage], *, n: int, seed: int) -> DraftedCases:
    """Return at most `n` cases, spread over tenants and pages; a larger `n` adds cases at the end.

    An accepted answer is a span of its page, and stands on few pages of its tenant. No two questions are
    equal, and no question has two answers.
    """
    given = sorted(pages, key=lambda page: (page.tenant, page.source))
    found = [list(itertools.islice(_candidates(page), _MOST_OF_PAGE)) for page in given]
    answers: dict[tuple[str, str], set[tuple[str, str]]] = {}
    for candidate in (each for some in found for each in some):
        answers.setdefault(candidate.key, set()).add((candidate.page.source, candidate.answer))
    why: Counter[str] = Counter()
    common, numbers, asked = _Common(given), Counter[str](), set[str]()
    taken: list[DraftedCase] = []
    for candidate in _spread(found, seed):
        if len(taken) >= n:
            break
        question = _plain(candidate.question)
        if len(answers[candidate.key]) > 1:
            why["several answers"] += 1
        elif question in asked:
            why["equal"] += 1
        elif common(candidate):
            why["common"] += 1
        else:
            asked.add(question)
            tenant = candidate.page.tenant
            numbers[tenant] += 1
            taken.append(_case(candidate, seed=seed, number=numbers[tenant]))
    reasons = _reasons(len(taken), found, why) if len(taken) < n else ()
    return DraftedCases(cases=tuple(taken), reasons=reasons)


def _case(candidate: _Candidate, *, seed: int, number: int) -> DraftedCase:
    page = candidate.page
    return DraftedCase(
        id=f"{page.tenant}-s{seed}-{number:03d}", tenant=page.tenant, page=page.source,
        question=candidate.question, answers=(candidate.answer,), sentence=candidate.sentence, seed=seed,
    )  # fmt: skip


def _reasons(taken: int, found: Sequence[Sequence[_Candidate]], why: Mapping[str, int]) -> tuple[str, ...]:
    empty = sum(not some for some in found)
    told = [
        f"{taken} of the possible questions of {len(found)} pages are usable",
        f"{empty} of {len(found)} pages have no sentence with a number, an amount, a date or a name"
        if empty
        else "",
        f"{why['several answers']} questions have several answers" if why["several answers"] else "",
        f"{why['common']} answers stand on too many pages" if why["common"] else "",
        f"{why['equal']} questions are equal to another one" if why["equal"] else "",
    ]
    return tuple(line for line in told if line)


class _Common:
    """Whether an answer stands on too many pages of its tenant to be told from a guess."""

    def __init__(self, pages: Sequence[CasePage]) -> None:
        self._texts: dict[str, list[str]] = {}
        for page in pages:
            self._texts.setdefault(page.tenant, []).append(_plain(page.text))
        self._known: dict[tuple[str, str], bool] = {}

    def __call__(self, candidate: _Candidate) -> bool:
        key = candidate.page.tenant, _plain(candidate.answer)
        if key not in self._known:
            texts = self._texts[key[0]]
            most = max(1, len(texts) // _SHARE) if len(texts) > 2 else len(texts)
            word = re.compile(rf"(?<!\w){re.escape(key[1])}(?!\w)")
            self._known[key] = sum(key[1] in text and bool(word.search(text)) for text in texts) > most
        return self._known[key]


def _spread(found: Sequence[Sequence[_Candidate]], seed: int) -> Iterator[_Candidate]:
    """Yield all candidates: tenants take turns, in each its pages, in each page its best candidates first."""
    tenants: dict[str, list[list[_Candidate]]] = {}
    for some in found:
        if some:
            ordered = sorted(some, key=lambda each: (each.rank, _chance(seed, each.question)))
            tenants.setdefault(some[0].page.tenant, []).append(ordered)
    turns = [
        _turns(sorted(pages, key=lambda own: _chance(seed, own[0].page.source))) for pages in tenants.values()
    ]
    while turns:
        for turn in list(turns):
            candidate = next(turn, None)
            if candidate is None:
                turns.remove(turn)
            else:
                yield candidate


def _turns(pages: Sequence[Sequence[_Candidate]]) -> Iterator[_Candidate]:
    longest = max(map(len, pages))
    return (page[turn] for turn in range(longest) for page in pages if turn < len(page))


def _chance(seed: int, text: str) -> bytes:
    """Return bytes that order texts by chance, the same for the same seed in every version of Python."""
    return hashlib.sha256(f"{seed}\n{text}".encode(errors="backslashreplace")).digest()


def _candidates(page: CasePage) -> Iterator[_Candidate]:
    """Yield the questions of a page, each with its answer; those of one sentence are ranked."""
    for sentence, made in _questions(page.text):
        seen = set()
        for turn, (tier, question, answer) in enumerate(made):
            if answer not in seen and _is_usable(question, answer):
                seen.add(answer)
                yield _Candidate(
                    page=page,
                    question=question,
                    answer=answer,
                    sentence=sentence,
                    rank=(turn + 2 * tier, tier),
                )


def _questions(text: str) -> Iterator[tuple[str, list[tuple[int, str, str]]]]:
    for block in _blocks(text):
        if isinstance(block, list):
            yield from _of_table(block)
            continue
        for sentence in _sentences(block):
            words = len(sentence.split())
            if _WORDS[0] <= words <= _WORDS[1] and len(sentence) <= _MOST_CHARACTERS:
                yield sentence, list(_of_sentence(sentence))


def _blocks(text: str) -> Iterator[str | list[list[str]]]:
    """Yield paragraphs and list items as one line each, and tables as rows of cells; no code, no headings."""
    lines: list[str] = []
    rows: list[str] = []
    fenced = bordered = False
    for line in [*text.splitlines(), ""]:
        fence = line.lstrip().startswith(("```", "~~~"))
        fenced = fenced != fence
        bordered = bool(line.strip()) and (bordered or line.lstrip().startswith(("+-", "+=")))
        is_row = (" | " in line or line.startswith("|")) and not fenced and not fence and not bordered
        if rows and not is_row:
            yield _cells(rows)
            rows = []
        ends = fence or fenced or bordered or is_row or not line.strip() or line.lstrip().startswith("#")
        if lines and (ends or _ITEM.match(line)):
            if not any(_RULE.search(each) for each in lines):
                yield " ".join(_ITEM.sub("", "\n".join(lines), count=1).split())
            lines = []
        if is_row:
            rows.append(line)
        elif not ends:
            lines.append(line)


def _cells(lines: Sequence[str]) -> list[list[str]]:
    """Return the cells of a table's rows; nothing for a grammar, and for rows of different widths."""
    rows = [
        [cell.strip() for cell in line.strip().strip("|").split("|")]
        for line in lines
        if not _SEPARATOR.issuperset(line)
    ]
    is_table = not any("::=" in line for line in lines) and len({len(row) for row in rows}) == 1
    return rows if is_table and all(cell[:1].isalpha() for cell in rows[0][1:]) else []


def _sentences(paragraph: str) -> Iterator[str]:
    start = 0
    for found in _END.finditer(paragraph):
        before = paragraph[max(start, found.end() - _NEAR) : found.end()].rstrip()
        begins = found[1].isupper() or found[1].isdecimal()
        dated = re.search(r"\b\d{1,2}\.$", before) and re.match(_MONTH, paragraph[found.end() :])
        if begins and not dated and not _ABBREVIATED.search(before):
            yield paragraph[start : found.end()].rstrip()
            start = found.end()
    if paragraph[start:].strip():
        yield paragraph[start:].strip()


def _of_sentence(sentence: str) -> Iterator[tuple[int, str, str]]:
    """Yield (tier, question, answer) for each span of a sentence that can be asked for, best first."""
    if not sentence[0].isalnum() or sentence[-1] not in ".!" or _DEPENDENT.match(sentence):
        return
    english = len(_ENGLISH.findall(sentence)) > len(_GERMAN.findall(sentence))
    taken: list[tuple[int, int]] = []
    for kind, pattern, words in (each for each in _KINDS if each[0] != ("Zahl" if english else "number")):
        for found in pattern.finditer(sentence):
            start, end = found.span("span")
            if any(start < other_end and other_start < end for other_start, other_end in taken):
                continue
            taken.append((start, end))
            if sentence.count(found["span"]) == 1 and _is_whole(kind, found):
                yield 0, _asked(sentence, found, words) if english else _gap(sentence, found), found["span"]
    defined = _DEFINITION.fullmatch(sentence)
    if defined and english and not _DEPENDENT.match(defined["span"]):
        yield 1, f"Which term is described as “{_cut(defined['rest'], 20)}”?", defined["span"]
    for found in _LITERAL.finditer(sentence) if len(sentence.split()) <= _MOST_GAPPED else ():
        if sentence.count(found["span"]) == 1:
            yield 2, _gap(sentence, found), found["span"]


def _is_whole(kind: str, found: re.Match[str]) -> bool:
    """Return whether a span is all of what is asked for, such as a number with its unit."""
    if kind not in {"number", "Zahl"}:
        return True
    before, after = found.string[: found.start("span")], found.string[found.end() : found.end() + 12]
    if kind == "number" and _REFERRING.search(before):
        return False
    named = not set(found["unit"].casefold().split()) & _UNITS_NOT
    return named and not re.match(r" (?:or|and|to|bis|und|oder) \d", after)


def _asked(sentence: str, found: re.Match[str], words: str) -> str:
    """Return an English sentence as a question, with `words` in the place of the span."""
    named = {name: text for name, text in found.groupdict().items() if text is not None}
    start = found.start("lead") if "lead" in named else found.start("span")
    before, after = sentence[:start], sentence[found.end() :]
    if (clause := before.rpartition("; ")[2]) and len(clause.split()) > 4 and not _DEPENDENT.match(clause):
        before = clause[0].upper() + clause[1:]
    asked = words.format(**named)
    whole = before + asked + after
    whole = _cut(whole, len(before) + len(asked))
    return f"{whole[0].upper()}{whole[1:]}".rstrip(" .!,;:") + "?"


def _gap(sentence: str, found: re.Match[str]) -> str:
    """Return a question for what is missing from a sentence, in German for a German one."""
    quote = found.groupdict().get("quote") or ""
    start, end = found.start("span") - len(quote), found.end("span") + len(quote)
    gapped = " ".join(f"{sentence[:start]}___{sentence[end:]}".split()).rstrip(" .!")
    if len(_GERMAN.findall(sentence)) > len(_ENGLISH.findall(sentence)):
        return f"Was fehlt hier: „{gapped}“?"
    return f"What is missing here: “{gapped}”?"


def _cut(text: str, least: int) -> str:
    """Return `text` without the clauses that follow its first `least` characters."""
    found = _TAIL.search(text, least)
    return text[: found.start()] if found and len(text[: found.start()].split()) >= _WORDS[0] else text


def _of_table(rows: Sequence[Sequence[str]]) -> Iterator[tuple[str, list[tuple[int, str, str]]]]:
    """Yield the questions of a table's cells: a column's name asked of a row's first cell."""
    head, width = rows[0] if rows else (), len(rows[0]) if rows else 0
    keys = Counter(row[0] for row in rows[1:])
    for row in (row for row in rows[1:] if row[0] and keys[row[0]] == 1):
        cells = [
            (0, f"What does the table say under “{head[i]}” for the {head[0] or 'row'} “{row[0]}”?", row[i])
            for i in range(1, width)
            if head[i] and row[i] and len(row[i]) <= 60 and re.search(r"\w", row[i])
        ]
        yield " | ".join(row), cells


def _is_usable(question: str, answer: str) -> bool:
    """Return whether a question says enough to be answered, and does not give its answer away."""
    content = [word for word in re.findall(r"[^\W\d_]+", question) if len(word) > 3]
    gives = re.search(rf"(?<!\w){re.escape(_plain(answer))}(?!\w)", _plain(question))
    return bool(answer.strip()) and not gives and len(content) >= _LEAST_CONTENT and question.isprintable()


def _plain(text: str) -> str:
    return " ".join(text.casefold().split())
