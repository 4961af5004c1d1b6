"""Identifiers and secrets of each kind are found, in their places, and texts without any are left alone."""

import pytest

from workbench.ports.privacy import Detector
from workbench.privacy import PatternDetector

DETECTOR = PatternDetector()


def found(text: str) -> list[tuple[str, str]]:
    return [(each.kind, text[each.start : each.end]) for each in DETECTOR.find(text)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "Contact Maria Garcia at maria.garcia@example.com or +1 202 555 0143.",
            [("person", "Maria Garcia"), ("email", "maria.garcia@example.com"), ("phone", "+1 202 555 0143")],
        ),
        (
            "Card 4111 1111 1111 1111 exp 12/27, IBAN DE89 3704 0044 0532 0130 00 please.",
            [("card", "4111 1111 1111 1111"), ("iban", "DE89 3704 0044 0532 0130 00")],
        ),
        (
            "My SSN is 123-45-6789, ring (415) 555-2671.",
            [("national_id", "123-45-6789"), ("phone", "(415) 555-2671")],
        ),
        (
            "Herr Müller wohnt in der Hauptstraße 5, 10115 Berlin.",
            [("person", "Müller"), ("address", "Hauptstraße 5, 10115 Berlin")],
        ),
        ("steuer-id 36574261809", [("tax_number", "36574261809")]),
        ("from 192.168.1.17 at version 1.2.3.4", [("ip", "192.168.1.17")]),
        (
            "sk-proj-abcdefghij1234567890XYZ and password = hunter2!",
            [("secret", "sk-proj-abcdefghij1234567890XYZ"), ("secret", "hunter2!")],
        ),
    ],
)
def test_each_kind_is_found_in_its_place(text, expected):
    assert found(text) == expected


def test_a_detector_is_one_of_the_port():
    assert isinstance(DETECTOR, Detector)


def test_secrets_are_of_their_own_class():
    (secret,) = DETECTOR.find("AKIAIOSFODNN7EXAMPLE")
    assert (secret.kind, secret.data_class) == ("secret", "secret")
