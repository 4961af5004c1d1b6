"""Score the fields of [[ name ]]: the share of expected fields that the answer gives as expected."""

import workbench as wb


def score(outcome: wb.Outcome) -> float:
    """Return the share of right fields; case and spaces do not count."""
    expected = outcome.case.expected["fields"]
    right = sum(_plain(outcome.output[name]) == _plain(value) for name, value in expected.items())
    return right / len(expected)


def _plain(value: object) -> str:
    return " ".join(str(value).split()).casefold()
