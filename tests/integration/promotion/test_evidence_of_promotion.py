"""A promotion's commit has the evidence of its version."""

from __future__ import annotations

import pytest

from workbench import registry
from workbench.attestations import folder_of, stored

pytest_plugins = ("promoted_clones",)
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def test_a_promoted_version_has_its_evidence_in_the_same_commit(promoted, tmp_path):
    clone = promoted.clone.copied(tmp_path)
    number = registry.load(clone.folder, "job", "answers").labels["production"]
    folder = folder_of("answers", number).as_posix()
    shown = clone.run("git", "show", "--name-only", "--format=", "HEAD")
    names = {name.removeprefix(f"{folder}/") for name in shown.splitlines() if name.startswith(folder)}
    assert names == {f"{name}.dsse.json" for name, _ in stored(clone.folder, "answers", number)} != set()
    assert "evidence trust" in promoted.said
    assert "promoter" in clone.run("workbench", "evidence", "trust")
    assert "with the promotion" in clone.run("workbench", "evidence", "show", f"job/answers@{number}")
