"""docs/evidence.md, followed to the letter: its commands run, and its tables say what the code does."""

from __future__ import annotations

import base64
import contextlib
import json
import re
import shlex

from click.testing import CliRunner
from clones import Clone
from documented_pages import blocks_of, page_of
from made_once import made_once
from signed_statements import key_of

from workbench.attestations import Trust
from workbench.attestations.trust import KEYS
from workbench.cli.app import cli

PAGE = page_of("evidence.md")


def called(folder, commands: str, code: int = 0) -> list[str]:
    """Type the commands of a block; return what they say. `>` writes a file, as in a shell."""
    said = []
    for line in commands.splitlines():
        command, _, target = line.partition(" > ")
        with contextlib.chdir(folder):
            done = CliRunner().invoke(cli, shlex.split(command)[2:])
        assert done.exit_code == code, (line, done.output, done.exception)
        said.append(done.stdout)
        if target:
            (folder / target).write_text(done.stdout, encoding="utf-8")
    return said


def test_the_commands_of_the_page_do_what_it_says(tmp_path_factory, tmp_path):
    home = Clone.at(made_once(tmp_path_factory, "head", Clone.of_head)).copied(tmp_path).folder
    first, verify, later, report, trust = blocks_of(PAGE, "console")
    shown, verified, exported, key = called(home, first)
    assert "PASS" in shown and "PASS" in verified and "PASS" in exported and "BEGIN PUBLIC KEY" in key
    (told,) = called(home, verify)
    assert "PASS" in told and "exported by" in told
    names = set(re.findall(r"^\| `([a-z-]+)` \| `(?:https:|urn:)", PAGE, re.MULTILINE))
    assert names == {path.name.split(".")[0] for path in (home / "pipelines/evidence/answers/7").iterdir()}
    for path in (home / "pipelines/evidence/answers/7").iterdir():
        assert f"`{json.loads(payload(path))['predicateType']}`" in PAGE
    assert "provenance" in called(home, later)[0]
    (home / "audit.json").write_text('{"dependencies": []}', encoding="utf-8")
    assert "vulnerabilities-" in called(home, report)[0]
    (home / "bob.pem").write_bytes(key_of("bob", 2).public_pem())
    assert "promoter" in called(home, trust)[0]
    entry = Trust.load(home).keys[key_of("bob", 2).key_id]
    assert (entry.principal, entry.roles) == ("bob", ("approver",))
    keys = re.findall(r"^ +(?:- )?(\w+):", (home / KEYS).read_text(encoding="utf-8"), re.MULTILINE)
    assert all(f"`{name}`" in PAGE for name in keys)
    (tampered,) = called_after_a_change(home, verify)
    assert "sbom.dsse.json" in tampered and "FAIL" in tampered


def called_after_a_change(home, commands: str) -> list[str]:
    path = home / "answers-7/statements/sbom.dsse.json"
    path.write_bytes(path.read_bytes()[:-1])
    return called(home, commands, code=1)


def payload(path) -> bytes:
    return base64.b64decode(json.loads(path.read_bytes())["payload"])
