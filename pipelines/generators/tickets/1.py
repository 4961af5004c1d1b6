"""Generate the tickets of the use case triage, with the truth about broken rows and planted personal data.

    python pipelines/generators/tickets/1.py            # write the files of data/triage and data/inbox
    python pipelines/generators/tickets/1.py --check    # write nothing, and fail when a file differs

The same seed gives the same bytes on every machine. Everything is invented: data/README.md describes it.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

NAME, VERSION, SEED = "tickets", 1, 7
LABELS = ("account", "billing", "booking", "damage", "delivery", "technical")
TENANTS = ("acme", "globex")
#: Tickets of each tenant, of which a few are left out again, and tickets of the inbox beside them.
AMOUNTS = {"acme": 372, "globex": 268}
INBOX = {"acme": 15, "globex": 11}
#: The share of each label among a tenant's tickets.
MIXES: Mapping[str, Mapping[str, float]] = {
    "acme": {
        "account": 0.13,
        "billing": 0.19,
        "booking": 0.12,
        "damage": 0.22,
        "delivery": 0.24,
        "technical": 0.10,
    },
    "globex": {
        "account": 0.11,
        "billing": 0.13,
        "booking": 0.27,
        "damage": 0.12,
        "delivery": 0.16,
        "technical": 0.21,
    },
}
#: The percentage of tickets that are cases, by the hash of their ids. The others are solved tickets.
CASES = 33
#: The share of tickets with planted personal data.
PLANTED = 0.12
#: The most words that two tickets of a tenant, or a case and a solved ticket, share, among all their words.
ALIKE = 0.62
#: Broken rows of each fault.
FAULTS: Mapping[str, int] = {
    "missing_label": 5,
    "unknown_label": 5,
    "empty_text": 4,
    "wrong_tenant": 4,
    "duplicate_id": 4,
    "duplicate_text": 4,
    "damaged_encoding": 5,
    "wrong_type": 3,
}
#: The column that each fault is in.
COLUMNS: Mapping[str, str] = {
    "missing_label": "label",
    "unknown_label": "label",
    "empty_text": "text",
    "wrong_tenant": "tenant",
    "duplicate_id": "id",
    "duplicate_text": "text",
    "damaged_encoding": "text",
    "wrong_type": "text",
}

WORDS: Mapping[str, Mapping[str, Sequence[str]]] = {
    "acme": {
        "goods": (
            "tent", "rope", "pair of boots", "rucksack", "stove", "ice axe", "sleeping bag", "head torch",
            "harness", "down jacket", "helmet", "set of crampons",
        ),
        "place": ("Ashfell", "Dunmore", "Zürich", "Lyon", "Keswick", "Innsbruck", "Aviemore"),
        "carrier": ("courier", "van driver", "parcel service", "post"),
        "service": ("web shop", "app", "gift card page", "size guide", "store finder"),
        "deal": ("order", "order", "reservation", "rental"),
    },
    "globex": {
        "goods": (
            "container", "coil wagon", "grain wagon", "tank wagon", "pallet of tiles", "machine part",
            "steel plate", "timber load", "bulk bag", "swap body",
        ),
        "place": ("Kessel", "Marrow", "Duisburg", "Gdańsk", "Port Elm", "Linz", "Malmö"),
        "carrier": ("train", "driver", "shunting crew", "feeder truck"),
        "service": ("customer portal", "tracking page", "EDI link", "slot planner", "weighbridge terminal"),
        "deal": ("booking", "booking", "transport", "slot"),
    },
}  # fmt: skip
SHARED: Mapping[str, Sequence[str]] = {
    "day": (
        "Monday",
        "Tuesday",
        "Wednesday",
        "Thursday",
        "Friday",
        "the weekend",
        "the 21st",
        "the 14th",
        "the 3rd",
    ),
    "amount": ("€48", "€112.50", "€19.90", "£230", "€1,640", "£75", "€388", "€64.20"),
    "count": ("two", "three", "four", "six", "ten"),
}
#: What tickets of each label are about, in a sentence.
SITUATIONS: Mapping[str, Sequence[str]] = {
    "account": (
        "I cannot sign in any more, it says my password is wrong.",
        "The link for a new password never reaches my inbox.",
        "Please change the e-mail address that belongs to my profile.",
        "My colleague has left and his user must be closed.",
        "We need {count} more users who can see our {deal}s.",
        "After {count} attempts I am locked out.",
        "The code for the second step of the sign-in does not come.",
        "I want my profile deleted, with everything you know about me.",
        "Who of us has the rights to approve a {deal}? I seem to have lost mine.",
        "My company has a new name and the profile still shows the old one.",
        "There are two profiles in my name and I would like them merged.",
        "Somebody else seems to have used my login on {day}.",
        "How do I switch off the newsletter for good?",
        "I have a new mobile and the authenticator is gone.",
    ),
    "billing": (
        "You took {amount} twice for the same {deal}.",
        "The invoice for the {goods} shows the wrong VAT number.",
        "I still wait for the {amount} that you promised to pay back.",
        "Where can I get a copy of the invoice of {day}?",
        "The sum on the reminder is not the one we agreed on, it is {amount} too high.",
        "I was charged for {count} although I only got one {goods}.",
        "Why is there a fee of {amount} on the statement?",
        "We paid on {day} and got a reminder all the same.",
        "The discount is missing, so the total is {amount} too much.",
        "Can we pay in {count} parts?",
        "Our accounts department needs the cost centre on the bill.",
        "My card was debited and then the {deal} was cancelled by you.",
        "The credit note has not turned up on our statement.",
        "The price for the {goods} is not what you quoted on {day}.",
    ),
    "booking": (
        "I would like to move my {deal} to {day}.",
        "Please cancel the {deal} for the {goods}, we do not need it any more.",
        "Can I add another {goods} to my {deal}?",
        "Is a {goods} free for {day}, and for how long?",
        "I picked the wrong date, it must be {day}.",
        "Could you confirm the {deal} that I made on {day}?",
        "We need {count} more of them than we asked for.",
        "Instead of the {goods} I want the larger one.",
        "What is the latest moment to change a {deal}?",
        "Please reserve {count} places for us on {day}.",
        "I want to start from {place} and not from where I said.",
        "The quantity is wrong, one {goods} is enough.",
        "May I hold the {deal} for a week before I decide?",
        "Do you take a {deal} for a group of {count}?",
    ),
    "damage": (
        "The {goods} is broken, a seam came apart on the first day.",
        "There is a crack in the {goods} as long as my hand.",
        "Water got in and now it is all rusty.",
        "The {goods} was dented when we opened the doors.",
        "A buckle snapped off after {count} days.",
        "The {goods} leaks, and the floor below it is wet.",
        "Half of it arrived scratched, I have pictures.",
        "Something heavy must have been dropped on it at {place}.",
        "The zip of it is torn and cannot be closed.",
        "{count} pieces are smashed, the others look bent.",
        "The seal was cut and the contents are spoiled.",
        "It stopped holding its shape, the frame is twisted.",
        "I want to make a claim for the {goods}, it is ruined.",
        "The material wears through much faster than it should.",
    ),
    "delivery": (
        "My {goods} should have been here on {day} and is not.",
        "Where is the {goods} now?",
        "The {carrier} left it at the wrong door in {place}.",
        "Only one of {count} has arrived.",
        "We waited all {day} and the {carrier} did not come.",
        "It has been standing in {place} for {count} days.",
        "You sent us somebody else's {goods}.",
        "Please tell the {carrier} to use the gate at the back.",
        "When will it reach {place}?",
        "The {carrier} says that nobody was in, but we were.",
        "The {goods} went to {place} by mistake.",
        "Can it be left with a neighbour, as I am away on {day}?",
        "It says handed over, but there is nothing here.",
        "The {carrier} came {count} hours late and our people had gone home.",
    ),
    "technical": (
        "The {service} shows an empty page since {day}.",
        "Every time I press send, the {service} freezes.",
        "I get error {number} from the {service}.",
        "The {service} is so slow that I give up.",
        "The search in the {service} finds nothing, whatever I type.",
        "Uploading a file to the {service} ends at 99 percent.",
        "Since the update the buttons of the {service} are gone.",
        "The {service} mixes up the dates, it shows the American order.",
        "The printout of the {service} cuts off the right half.",
        "Messages of your {service} reach our system twice.",
        "The {service} does not work in my browser at all.",
        "The map in the {service} is grey and nothing loads.",
        "Our machine loses the connection to the {service} every {count} minutes.",
        "The {service} crashes when I turn the phone.",
    ),
}
#: The same in a few words, as hurried people write; several fit more labels than one.
TERSE: Mapping[str, Sequence[str]] = {
    "account": (
        "login gone",
        "cannot get in",
        "new password please",
        "wrong name in profile",
        "user to be removed",
        "locked out again",
    ),
    "billing": (
        "charged twice",
        "invoice wrong",
        "money not back",
        "reminder though paid",
        "copy of invoice",
        "{amount} too much",
    ),
    "booking": (
        "cancel please",
        "other date, {day}",
        "one more {goods}",
        "{deal} to be moved",
        "still free on {day}?",
        "wrong number of pieces",
    ),
    "damage": (
        "{goods} broken",
        "arrived in pieces",
        "crack in {goods}",
        "torn after {count} days",
        "all wet and rusty",
        "bent, not usable",
    ),
    "delivery": (
        "{goods} not here",
        "nothing came on {day}",
        "where is it",
        "wrong place, {place}",
        "still waiting",
        "only part of it came",
    ),
    "technical": (
        "{service} down",
        "error {number}",
        "page stays white",
        "app does nothing",
        "upload stuck",
        "no connection since {day}",
    ),
}
#: Sentences that say nothing about the label.
OPENINGS: Sequence[str] = (
    "Hello,", "Hi there,", "Good morning,", "Dear team,", "To whom it may concern,", "Hey,", "Hi,",
)  # fmt: skip
CONTEXTS: Sequence[str] = (
    "It is about {deal} {ref}.",
    "The number is {ref}.",
    "I wrote to you about this on {day} already.",
    "I am in {place} this week.",
    "This is the second time this year.",
    "I have been a customer for {count} years.",
    "My colleague told me to write to you.",
    "I looked through your pages and found nothing on it.",
    "On the phone I was told to send a message.",
    "It is for a trip on {day}.",
    "Our people in {place} asked me to report it.",
    "I attach what I have.",
)
#: Sentences that name the subject of another label and are not what the ticket is about.
DISTRACTORS: Mapping[str, Sequence[str]] = {
    "account": (
        "Signing in works, by the way.",
        "I am logged in with my usual profile.",
        "The password is not the problem.",
    ),
    "billing": (
        "The invoice is paid.",
        "I have paid the {amount} on {day}.",
        "I do not ask for money back.",
        "The price was fine.",
    ),
    "booking": (
        "I made the {deal} on {day}.",
        "I do not want to cancel the {deal}.",
        "The {deal} was confirmed at once.",
    ),
    "damage": (
        "The {goods} itself is in good order.",
        "Nothing is broken, luckily.",
        "The packing was a little torn, never mind.",
    ),
    "delivery": (
        "It arrived on time.",
        "The {carrier} was friendly and punctual.",
        "The {goods} came on {day}.",
    ),
    "technical": (
        "I saw it in the {service}.",
        "The {service} worked well this time.",
        "I wrote this from the {service}.",
    ),
}
CLOSINGS: Sequence[str] = (
    "Thanks.", "Kind regards", "Please answer soon.", "What can you do?", "I expect an answer by {day}.",
    "Best wishes", "Thank you for your help.", "This is really annoying!", "Many thanks in advance", "Cheers",
)  # fmt: skip
#: Personal data and the sentence around it, for each kind; `{data}` is the planted text.
PERSONAL: Mapping[str, Sequence[str]] = {
    "email": ("You reach me at {data}.", "Please answer to {data}."),
    "phone": ("My number is {data}.", "Call me on {data} after five."),
    "iban": ("My account for it is {data}.", "IBAN {data}, if you need it."),
    "card": ("The card was {data}.", "I used the card {data}."),
    "name": ("My name is {data}.", "Ask for {data} at the desk."),
    "address": ("I live at {data}.", "We are at {data}."),
}
FIRST = ("Mara", "Tom", "Ines", "Priya", "Jonas", "Aled", "Zoë", "Ravi", "Katrin", "Luc", "Oona", "Samuel")
LAST = (
    "Okafor",
    "Lindqvist",
    "Brandt",
    "Pell",
    "Moreau",
    "Sato",
    "Whitlock",
    "Núñez",
    "Harker",
    "Varga",
    "Reed",
)
STREETS = ("Fell Lane", "Mill Road", "Station Street", "Quarry Row", "Chapel Hill", "Dock Street")
CARDS = (
    "4111 1111 1111 1111",
    "5555 5555 5555 4444",
    "4012 8888 8888 1881",
)  # numbers for tests, of no account


@dataclass(slots=True, kw_only=True)
class Ticket:
    """A ticket; `personal` holds the kind and text of what was planted."""

    id: str
    tenant: str
    text: str
    label: str
    personal: list[tuple[str, str]] = field(default_factory=list)

    def row(self, seed: int) -> dict[str, object]:
        """Return the ticket as a row with its provenance."""
        own = {"id": self.id, "tenant": self.tenant, "text": self.text, "label": self.label}
        return {**own, "synthetic": True, "generator": NAME, "generator_version": VERSION, "seed": seed}


class Writer:
    """Write the texts of one tenant's tickets, none of them much like another."""

    def __init__(self, chance: random.Random, tenant: str) -> None:
        self.chance = chance
        self.tenant = tenant
        self.seen: list[frozenset[str]] = []

    def ticket(self, label: str) -> Ticket:
        """Return a ticket without an id, in words that no earlier ticket has."""
        while True:
            text, personal = self._text(label)
            words = words_of(text)
            if not any(are_alike(words, other) for other in self.seen):
                self.seen.append(words)
                return Ticket(id="", tenant=self.tenant, text=text, label=label, personal=personal)

    def _text(self, label: str) -> tuple[str, list[tuple[str, str]]]:
        chance, personal = self.chance, []
        terse = chance.random() < 0.16
        parts = [self._filled(chance.choice((TERSE if terse else SITUATIONS)[label]))]
        if chance.random() < (0.35 if terse else 0.62):
            parts.insert(chance.randrange(2), self._filled(chance.choice(CONTEXTS)))
        if chance.random() < 0.42:
            other = chance.choice([name for name in LABELS if name != label])
            parts.insert(chance.randrange(len(parts) + 1), self._filled(chance.choice(DISTRACTORS[other])))
        if chance.random() < 0.45:
            parts.insert(0, chance.choice(OPENINGS))
        if chance.random() < 0.4:
            parts.append(self._filled(chance.choice(CLOSINGS)))
        parts = [self._toned(part) for part in self._in_tone(parts)]
        if chance.random() < PLANTED:
            kind = chance.choice(tuple(PERSONAL))
            data = self._data(kind)
            personal.append((kind, data))
            parts.append(chance.choice(PERSONAL[kind]).format(data=data))
        return " ".join(parts), personal

    def _filled(self, text: str) -> str:
        chance = self.chance
        words = {**WORDS[self.tenant], **SHARED}
        values = {name: chance.choice(found) for name, found in words.items()}
        values["number"] = str(chance.choice((400, 403, 404, 419, 500, 502, 503)))
        values["ref"] = f"{chance.choice('ABCDEFGH')}-{chance.randrange(10_000, 99_999)}"
        filled = text.format(**values)
        return filled[:1].upper() + filled[1:] if text[:1] in "{ABCDEFGHIJKLMNOPQRSTUVWXYZ" else filled

    def _in_tone(self, parts: list[str]) -> list[str]:
        """Choose how the writer writes, for the whole ticket."""
        tone = self.chance.random()
        if tone < 0.14:
            return [part.lower() for part in parts]
        if tone < 0.2:
            return [part.upper() for part in parts]
        if tone < 0.26:
            return [part.rstrip(".,!") for part in parts]
        return parts

    def _toned(self, part: str) -> str:
        """Swap two letters of a longer word now and then."""
        if self.chance.random() >= 0.12:
            return part
        words = part.split(" ")
        at = self.chance.randrange(len(words))
        word = words[at]
        if len(word) > 4 and word.isalpha():
            middle = self.chance.randrange(1, len(word) - 2)
            words[at] = word[:middle] + word[middle + 1] + word[middle] + word[middle + 2 :]
        return " ".join(words)

    def _data(self, kind: str) -> str:
        chance = self.chance
        first, last = chance.choice(FIRST), chance.choice(LAST)
        digits = f"{chance.randrange(10**3):03}"
        match kind:
            case "email":
                return f"{first}.{last}{chance.randrange(9)}@example.com".lower()
            case "phone":  # a range that no subscriber has
                return f"+44 7700 900{digits}"
            case "iban":
                return iban("DE", f"{chance.randrange(10**18):018}")
            case "card":
                return chance.choice(CARDS)
            case "name":
                return f"{first} {last}"
        place = chance.choice(WORDS[self.tenant]["place"])
        return f"{chance.randrange(1, 99)} {chance.choice(STREETS)}, {place}"


def words_of(text: str) -> frozenset[str]:
    """Return the words of a text, in lower case."""
    return frozenset(text.lower().split())


def are_alike(words: frozenset[str], other: frozenset[str]) -> bool:
    """Return whether two texts share too many of their words."""
    return len(words & other) > ALIKE * len(words | other)


def stands_in(part: str, text: str) -> bool:
    """Return whether five words or more, all of `part`, stand in `text` one after another."""
    words, around = (re.findall(r"\w+", given.lower()) for given in (part, text))
    return len(words) >= 5 and f" {' '.join(words)} " in f" {' '.join(around)} "


def iban(country: str, account: str) -> str:
    """Return an account number with its check digits, in groups of four."""
    letters = "".join(str(ord(letter) - 55) for letter in country)
    check = 98 - int(f"{account}{letters}00") % 97
    whole = f"{country}{check:02}{account}"
    return " ".join(whole[at : at + 4] for at in range(0, len(whole), 4))


def is_case(ticket_id: str) -> bool:
    """Return whether the ticket of this id is a case; the others are solved tickets in memory."""
    return int(hashlib.sha256(ticket_id.encode()).hexdigest(), 16) % 100 < CASES


def generate(seed: int = SEED) -> dict[str, bytes]:
    """Return the bytes of every file by its path in the repository."""
    chance = random.Random(seed)
    writers = {tenant: Writer(chance, tenant) for tenant in TENANTS}
    clean = _apart(_tickets(chance, writers, AMOUNTS, prefix="t"))
    inbox = _tickets(chance, writers, INBOX, prefix="n")
    raw, broken = _with_faults(chance, clean, writers, seed)
    rows = [ticket.row(seed) for ticket in clean]
    asked = [{key: value for key, value in ticket.row(seed).items() if key != "label"} for ticket in inbox]
    day: list[dict[str, object]] = [dict(row) for row in asked[6:]]
    day[-1].pop("text")  # on purpose: a job names a row that it cannot answer
    found: dict[str, Sequence[Mapping[str, object]]] = {
        "data/triage/tickets.jsonl": raw,
        "data/triage/broken.jsonl": broken,
        "data/triage/planted.jsonl": list(_planted([*clean, *inbox])),
        "data/triage/cases.jsonl": [row for row in rows if is_case(str(row["id"]))],
        "data/triage/solved.jsonl": [row for row in rows if not is_case(str(row["id"]))],
        "data/inbox/triage-sample.jsonl": asked[:6],
        "data/inbox/triage-2026-11-24.jsonl": day,
    }
    return {path: _lines(rows) for path, rows in found.items()}


def _tickets(
    chance: random.Random, writers: Mapping[str, Writer], amounts: Mapping[str, int], *, prefix: str
) -> list[Ticket]:
    tickets = []
    for tenant, amount in amounts.items():
        mix = MIXES[tenant]
        labels = chance.choices(tuple(mix), weights=tuple(mix.values()), k=amount)
        tickets += [writers[tenant].ticket(label) for label in labels]
    chance.shuffle(tickets)
    for number, ticket in enumerate(tickets, start=1):
        ticket.id = f"{prefix}-{number:04}"
    return tickets


def _apart(tickets: Sequence[Ticket]) -> list[Ticket]:
    """Leave out the solved tickets in which a case stands, or which are like one of another tenant."""
    cases = [ticket.text for ticket in tickets if is_case(ticket.id)]

    def gives_away(text: str) -> bool:
        return any(are_alike(words_of(text), words_of(case)) or stands_in(case, text) for case in cases)

    return [ticket for ticket in tickets if is_case(ticket.id) or not gives_away(ticket.text)]


def _with_faults(
    chance: random.Random, clean: Sequence[Ticket], writers: Mapping[str, Writer], seed: int
) -> tuple[list[dict[str, object]], list[dict[str, object]]]:
    """Return the raw rows with broken ones among them, and which they are."""
    rows: list[tuple[dict[str, object], str]] = [(ticket.row(seed), "") for ticket in clean]
    made, number = [], len(clean)
    for fault, amount in FAULTS.items():
        for _ in range(amount):
            number += 1
            ticket = writers[chance.choice(TENANTS)].ticket(chance.choice(LABELS))
            ticket.id = f"t-{number:04}"
            made.append((_broken(chance, fault, ticket.row(seed), clean), fault))
    for row, fault in made:
        rows.insert(chance.randrange(len(rows)), (row, fault))
    _move_behind(rows)
    broken = [
        {"line": line, "id": row["id"], "fault": fault, "column": COLUMNS[fault]}
        for line, (row, fault) in enumerate(rows, start=1)
        if fault
    ]
    return [row for row, _ in rows], broken


def _broken(
    chance: random.Random, fault: str, row: dict[str, object], clean: Sequence[Ticket]
) -> dict[str, object]:
    other = chance.choice([ticket for ticket in clean if ticket.tenant == row["tenant"]])
    text, changed = str(row["text"]), dict(row)
    match fault:
        case "missing_label":
            del changed["label"]
        case "unknown_label":
            changed["label"] = chance.choice(("biling", "Delivery", "other", "n/a"))
        case "empty_text":
            changed["text"] = chance.choice(("", "   ", "\n"))
        case "wrong_tenant":
            changed["tenant"] = chance.choice(("initech", "Acme", "globex-test"))
        case "duplicate_id":
            changed["id"] = other.id
        case "duplicate_text":
            changed |= {"text": other.text, "label": other.label}
        case "damaged_encoding":
            foreign = f"{text} Grüße aus Zürich, für das Team in Malmö"
            misread = foreign.encode().decode("cp1252")
            changed["text"] = misread if chance.random() < 0.6 else _replaced(foreign)
        case "wrong_type":
            changed["text"] = chance.choice(([text], len(text), {"text": text}))
    return changed


def _replaced(text: str) -> str:
    """Return a text as a wrong decoder leaves it: a replacement character for each foreign letter."""
    return "".join(letter if letter.isascii() else "\ufffd" for letter in text)


def _move_behind(rows: list[tuple[dict[str, object], str]]) -> None:
    """Move each duplicate behind the row that it repeats, because the first of two is the good one."""
    for column, fault in (("id", "duplicate_id"), ("text", "duplicate_text")):
        first = {row[column]: at for at, (row, found) in enumerate(rows) if not found and column in row}
        early = [pair for at, pair in enumerate(rows) if pair[1] == fault and first[pair[0][column]] > at]
        rows[:] = [pair for pair in rows if not any(pair is other for other in early)] + early


def _planted(tickets: Sequence[Ticket]) -> Iterator[dict[str, object]]:
    for ticket in sorted(tickets, key=lambda ticket: ticket.id):
        for kind, text in ticket.personal:
            start = ticket.text.index(text)
            yield {"id": ticket.id, "kind": kind, "text": text, "start": start, "end": start + len(text)}


def _lines(rows: Sequence[Mapping[str, object]]) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def main() -> int:
    """Write the files, or compare them with `--check`; return 1 when they differ."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, default=Path(__file__).resolve().parents[3])
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--check", action="store_true", help="write nothing, and fail when a file differs")
    given = parser.parse_args()
    differ = []
    for path, data in generate(given.seed).items():
        place = given.out / path
        if given.check:
            differ += [path] * (not place.is_file() or place.read_bytes() != data)
            continue
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(data)
    for path in differ:
        sys.stderr.write(
            f"{path} is not what {NAME} version {VERSION} generates with the seed {given.seed}\n"
        )
    return 1 if differ else 0


if __name__ == "__main__":
    sys.exit(main())
