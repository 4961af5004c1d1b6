from __future__ import annotations

import dataclasses
import json

import pytest
from made_jobs import a_spec

from workbench import files
from workbench.config.operations import OPERATIONS, load_operations
from workbench.errors import ConfigError, RefusedError
from workbench.jobs.parity import ENVIRONMENT, check_parity, environment_here, parity_of
from workbench.layout import ENVIRONMENTS, LOCK
from workbench.repository import environments
from workbench.repository.fingerprint import fingerprint

MLVP = a_spec(phase="mlvp")


@pytest.fixture
def root(tmp_path):
    """A repository whose lock is installed, and a version of it without evidence."""
    files.write_atomic(tmp_path / LOCK, b"openai==2.0\n")
    folder = tmp_path / ENVIRONMENTS / environments.digest(b"openai==2.0\n")
    (folder / "lib/python3.11/site-packages/openai-2.0.dist-info").mkdir(parents=True)
    files.write_atomic(folder / environments.STAMP, b"openai==2.0\n")
    files.write_atomic(folder / "bin" / "python", b"")
    return tmp_path


def python(root):
    return root / ENVIRONMENTS / environments.digest(b"openai==2.0\n") / "bin" / "python"


def judged(root, **changes):
    """The evidence of a promotion here, with these parts changed."""
    here = dataclasses.replace(fingerprint(python(root), confinement="full"), **changes)
    files.write_atomic(root / "version" / ENVIRONMENT, files.pretty(here.to_json()))


def found(root, confinement="full"):
    return parity_of(root / "version", python(root), confinement=confinement)


def operated(root, text):
    files.write_atomic(root / OPERATIONS, f"jobs: {{answers: {{{text}}}}}\n".encode())


def test_the_environment_of_a_promotion_is_evidence_and_a_run_in_it_is_equal(root):
    (root / "version").mkdir()
    for name, data in environment_here(root, confinement="full").items():
        files.write_atomic(root / "version" / name, data)
    equal = found(root)
    assert (equal.state, equal.differences, equal.note("answers@1")) == ("equal", (), "")
    check_parity(root, MLVP, equal)
    assert equal.facts() == {"parity": "equal", "environment": equal.here.to_json()}


def test_without_the_environment_of_the_lock_no_evidence_is_made(root):
    files.write_atomic(root / LOCK, b"another==1\n")
    assert environment_here(root, confinement="full") == {}


def test_a_difference_that_matters_is_told_with_both_values(root):
    judged(root, machine="riscv64", kernel="5.0")
    other = found(root)
    assert other.state == "differs" and len(other.differences) == 2
    note = other.note("answers@1")
    assert note.startswith("answers@1: this environment is not the judged one: machine is ")
    assert "judged with riscv64" in note and "kernel" not in note
    assert len(other.facts()["differences"]) == 2


@pytest.mark.parametrize(
    ("stated", "phase", "refused"),
    [
        ("", "mvp", False),
        ("", "mlvp", True),
        ("parity: tell", "mlvp", False),
        ("parity: refuse", "mvp", True),
    ],
)
def test_a_difference_is_refused_in_the_strict_phase_or_where_it_is_stated(root, stated, phase, refused):
    judged(root, packages="0" * 64)
    if stated:
        operated(root, stated)
    spec = a_spec(phase=phase)
    if not refused:
        check_parity(root, spec, found(root))
        return
    with pytest.raises(RefusedError, match="packages") as caught:
        check_parity(root, spec, found(root))
    assert caught.value.hint.startswith("workbench promote job/answers")


def test_a_weaker_confinement_than_the_judged_one_is_refused_and_a_stronger_one_is_not(root):
    judged(root, confinement="partial")
    check_parity(root, MLVP, found(root, "full"))
    with pytest.raises(RefusedError, match="confinement is none, judged with partial"):
        check_parity(root, MLVP, found(root, "none"))


def test_a_version_without_evidence_is_unknown_and_is_refused_only_where_that_is_stated(root):
    unknown = found(root)
    assert (unknown.state, unknown.note("answers@1")) == ("unknown", "")
    check_parity(root, MLVP, unknown)
    operated(root, "parity: refuse")
    with pytest.raises(RefusedError, match="no evidence of the environment"):
        check_parity(root, MLVP, unknown)


@pytest.mark.parametrize("text", ["[]", "{", '{"python": 3}', '{"python": "3", "colour": "x"}', " " * 70_000])
def test_evidence_that_is_none_is_one_error_that_names_the_file(root, text):
    files.write_atomic(root / "version" / ENVIRONMENT, text.encode())
    with pytest.raises(ConfigError, match=r"environment\.json"):
        found(root)


def test_another_word_for_the_rule_is_refused_when_it_is_read(root):
    operated(root, "parity: perhaps")
    with pytest.raises(ConfigError, match="parity"):
        load_operations(root)


def test_the_facts_of_a_run_are_plain_json(root):
    judged(root, machine="riscv64")
    assert json.loads(json.dumps(found(root).facts()))["parity"] == "differs"
