"""`workbench jobs --help` on a terminal of 80 columns: each command with a whole sentence."""

from __future__ import annotations

import re

from click.testing import CliRunner

from workbench.cli.app import cli


def test_each_command_of_jobs_is_listed_with_a_sentence_that_is_not_cut_off():
    done = CliRunner().invoke(cli, ["jobs", "--help"], terminal_width=80, catch_exceptions=False)
    listed = dict(re.findall(r"^  ([a-z]+) +([A-Z].+)$", done.output.partition("Commands:")[2], re.MULTILINE))
    assert {"run", "serve", "history", "pause", "rollout", "export"} <= listed.keys()
    assert not {name: text for name, text in listed.items() if not text.endswith(".") or text.endswith("...")}
