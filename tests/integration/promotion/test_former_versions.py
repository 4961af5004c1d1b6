"""Former versions of the shipped job reproduce their samples byte for byte, in their own code, offline."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest
from clone_edits import bytes_of

from workbench import files
from workbench.jobs import spec as jobspec
from workbench.layout import LOCK
from workbench.repository import environments
from workbench.repository.git import Repository

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
FIRST_LAYOUT = pytest.mark.drawn("versions of the first layout", 1)


def install_environment(root: Path, lock: bytes) -> None:
    """Install the environment of a lock; links to the running one serve a lock of the same packages."""
    if environments.differing_versions(lock.decode()):
        environments.install(root, lock, say=print)
        return
    folder = root / ".workbench/cache/env" / environments.digest(lock)
    (folder / "bin").mkdir(parents=True)
    shutil.copy(Path(sys.prefix) / "pyvenv.cfg", folder)
    (folder / "bin/python").symlink_to(Path(sys.executable).resolve())
    (folder / "lib").symlink_to(Path(sys.prefix) / "lib")
    (folder / environments.STAMP).write_bytes(lock)


@pytest.mark.parametrize(
    ("number", "worker"),
    [
        pytest.param(1, "promotion/worker.py", marks=FIRST_LAYOUT),
        pytest.param(2, "promotion/worker.py", marks=FIRST_LAYOUT),
        (3, "worker.py"),
    ],
)
def test_a_former_version_reproduces_the_bytes_of_its_promotion(fresh_clone, number, worker):
    clone = fresh_clone
    spec, _ = jobspec.load(clone.folder, "answers", number)
    lock = Repository(root=clone.folder).read(jobspec.code_of(clone.folder, spec), LOCK)
    assert files.digest(lock) == spec.digests["lock"]

    if not environments.is_installed(clone.folder, spec.digests["lock"]):
        install_environment(clone.folder, lock)
    clone.run("python", "-m", "workbench.pipeline.stages", "job", f"answers@{number}", network=False)
    made = bytes_of(clone.folder / f"results/jobs/answers-{number}")
    assert {name: files.digest(data) for name, data in made.items()} == spec.sample_outputs
    assert set(made) == {"answers.acme.parquet", "answers.globex.parquet", "quarantine.parquet"}
    code = clone.folder / ".workbench/cache/code" / spec.commit / "workbench"
    assert (code / worker).is_file() and not (code / "scaffold").exists()
    assert clone.status() == ""
