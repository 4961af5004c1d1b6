"""The names that the registry writes without the YAML library are read again as the names."""

from __future__ import annotations

import contextlib

import pytest

from workbench import files, registry
from workbench.errors import ConfigError

WORDS = [
    "answers", "null", "True", "off", "y", "~", "0", "007", "0x1f", "0o17", "1e3", "1_000", "0.25", "00.5",
    "-1", "+1", ".5", ".inf", "12:30", "2026-11-24", "UTC", "Europe/Berlin", "Etc/GMT+1", "0 6 * * *",
    "'*/5 8-18 * * mon-fri'", "'it''s'", '"a"', "a # b", "a: b", "[1]", "{}", "*a", "&a", "!!int 3", "", "é",
    "0 6 * * * ", "1 2 3 4 5", "'\\x00'", "'é'", "|", "- 1",
]  # fmt: skip


@pytest.mark.parametrize("name", [*WORDS, "null-1", "Yes", "n", "job-1", "a_b"])
def test_the_name_on_a_page_is_read_again_as_the_name(name):
    written = registry._plain(name) if _is_yaml(name) else registry._quoted(name)
    assert files.parse_yaml(f"name: {written}", where="page") == {"name": name}


def _is_yaml(name):
    with contextlib.suppress(ConfigError):
        files.parse_yaml(f"name: {name}", where="page")
        return True
    return False
