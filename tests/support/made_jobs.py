"""A repository with one use case, judged, and versions of a job made of given pages: no kernel, no DVC."""

from __future__ import annotations

import dataclasses
import shutil

import nbformat
from made_repositories import git, saved
from made_runs import a_run, of
from nbformat.v4 import new_code_cell, new_notebook

from workbench import config, files, layout, registry
from workbench.experiments.gate_spec import stated_digest
from workbench.experiments.runs import save_runs
from workbench.jobs import spec as jobspec
from workbench.jobs.spec import JobSpec, Parameter
from workbench.layout import Results
from workbench.notebooks import inspection
from workbench.promotion import freezing, release
from workbench.promotion.freezing import CleanRun
from workbench.promotion.judgement import gate_of, scorers_of
from workbench.repository import environments
from workbench.testing.fakes import FakeClock

PARAMS = """\
use_cases:
  answers:
    title: Answers
    purpose: Answers to questions.
    owner: people
    phase: mvp
    notebook: notebooks/answers.ipynb
    tenants: [acme, globex]
    data: data/handbook
    memory: {name: handbook, version: 1}
    prompt: {name: answer, version: 2}
    model: tiny
    report: reports/readiness
    parameters: {k: 5}
    gates:
      mvp:
        accuracy: {min: 0.5}
        cases: {min: 10}
        confidence: 0.9
jobs:
  answers:
    use_case: answers
    sample: data/inbox/sample.jsonl
    input: data/inbox/{date}-{time}.jsonl
    schedule: {cron: "0 6 * * *", timezone: UTC}
    limits: {seconds: 60, broken: 0.25}
"""
CELLS = (('inputs = ""\nk = 3', "parameters"), ("answered = [inputs, k]", ""), ("print(k)", "explore"))
SAMPLE = b'{"id": "s-1", "tenant": "acme", "question": "When?"}\n'
RESULTS = Results(use_case="answers")
INPUTS = b"the inputs of the judged cases"
OUTPUTS = {"answers.acme.parquet": b"rows", "quarantine.parquet": b"broken"}
COUNTS = {
    "rows": 2, "answered": 1, "quarantined": 1, "broken_input": 1, "broken_answer": 0, "calls": 1,
    "cost_usd": 0.5, "input_tokens": 7, "output_tokens": 3, "held": False,
}  # fmt: skip


def stored(path, *cells):
    """A notebook of these cells: the source, and a tag or none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    made = [new_code_cell(source, metadata={"tags": [tag] if tag else []}) for source, tag in cells]
    nbformat.write(new_notebook(cells=made), path)


#: A lock of one package, which a version's bill of materials lists.
LOCKED = f"tiny==1.0 \\\n    --hash=sha256:{'0' * 64}\n".encode()
LOCK_DIGEST = files.digest(LOCKED)


def judged_repository(root, *, right=36):
    """A committed repository in the new folder `root`: of 40 cases that were run, `right` are right."""
    git(root.parent, "init", "--quiet", str(root))
    for number in (1, 2):
        save(root, "prompt", "answer", f"prompt {number}\n")
    save(root, "memory", "handbook", "source: data/handbook\n")
    save(root, "model", "tiny", "model: tiny\n")
    stored(root / "notebooks/answers.ipynb", *CELLS)
    (root / "params.yaml").write_text(PARAMS)
    release.write_stages(root)
    judged_run(root, right=right)
    installed(root)
    others = {"workbench/code.py": "1", freezing.LOCK: LOCKED.decode(), "data/inbox/sample.jsonl": SAMPLE}
    (root / ".gitignore").write_text("/.workbench/\n")
    saved(root, "Start", **others)
    return root


def save(root, kind, name, text):
    return registry.save_version(root, kind, name, text.encode(), author="Ada", reason="tried", parent=None)


def judged_run(root, *, right=36, cases=40, **settings):
    """The run of the pipeline's candidate, with what was published, saved where the judge stage saves it."""
    case = config.load_params(root).use_cases["answers"]
    notebook = inspection.read(root / case.notebook)
    spec, scorers = gate_of(root, "answers", case), scorers_of(root, "answers", case).identity()
    gate = stated_digest(spec, dataset="d", scorers=scorers)
    resolved = {"prompt": "answer@2", "memory": "handbook@1", "model": "tiny@1", **settings}
    digests = {
        "prompt_digest": files.digest(b"prompt 2\n"), "memory_digest": "m" * 64, "model_digest": "n" * 64,
    }  # fmt: skip
    run = dataclasses.replace(
        a_run("candidate", accuracy=of(right, cases), gate=gate),
        task_digest=notebook.digest(notebook.typed(case.parameters)),
        settings={**digests, **resolved, "task": "answer"},
    )
    save_runs([run], root / RESULTS.judged)
    for name, data in OUTPUTS.items():
        files.write_atomic(root / RESULTS.answered / name, data)
    files.write_atomic(root / RESULTS.prepared / "inputs.parquet", INPUTS)
    files.write_atomic(root / RESULTS.prepared / "summary.json", b'{"dataset_digest": "d"}')
    return run


def copied(source, target):
    """A copy of a repository, which is made quicker than the repository."""
    return shutil.copytree(source, target, symlinks=True)


def a_spec(**changes):
    """The page of a version, whole and plain."""
    plain = JobSpec(
        format=1, job="answers", version=1, use_case="answers", phase="mvp", notebook="notebooks/n.ipynb",
        commit="c" * 40, code={"workbench": "d" * 40}, task_digest="t" * 64, gate_digest="g" * 64,
        dataset_digest="d", run="r" * 12, pins={"prompt": "answer@2", "memory": "m@1", "model": "tiny@1"},
        digests={"prompt": "p", "memory": "m" * 64, "model": "n", "lock": LOCK_DIGEST, "tape": "t"},
        parameters={"k": Parameter(type="int", value=3)}, sample="sample.jsonl",
        sample_outputs={name: files.digest(data) for name, data in OUTPUTS.items()},
        limits=config.Limits(seconds=60), files={}, arm={"temperature": 0.5},
        schedule=config.Timing(cron="0 6 * * *"), input="data/inbox/{date}.jsonl",
    )  # fmt: skip
    return dataclasses.replace(plain, **changes)


def installed(root, lock=LOCKED):
    """What stands for the installed environment of a lock."""
    folder = root / layout.ENVIRONMENTS / environments.digest(lock)
    files.write_atomic(folder / environments.STAMP, lock)
    files.write_atomic(folder / "bin" / "python", b"")
    return folder


def clean(counts=None, tape=b"tape"):
    """What a clean run gave."""
    outputs = {name: files.digest(data) for name, data in OUTPUTS.items()}
    return CleanRun(outputs=outputs, tape=tape, counts=counts or COUNTS)


def frozen(root, version=1, *, label=None, more=None, **changes):
    """A version's folder, with `more` files, and its entry, with the code of HEAD; committed."""
    commit = git(root, "rev-parse", "HEAD")
    code = {"workbench": git(root, "rev-parse", "HEAD:workbench")}
    contents = {
        jobspec.TASK: b"{}",
        "sample.jsonl": SAMPLE,
        jobspec.TAPE: b"",
        "prompts/answer/2.prompty": b"x",
        **(more or {}),
    }
    kept = {name: files.digest(data) for name, data in contents.items()}
    spec = a_spec(**{"version": version, "commit": commit, "code": code, "files": kept, **changes})
    folder = registry.path_of(root, "job", "answers", version).parent
    for name, data in {**contents, jobspec.PAGE: spec.text()}.items():
        files.write_atomic(folder / name, data)
    asset = registry.load_or_new(root, "job", "answers")
    entry = registry.VersionEntry(digest=files.digest(spec.text()), author="Ada", reason=f"reason {version}")
    asset = dataclasses.replace(asset, versions={**asset.versions, version: entry})
    if label is None:
        registry.write(root, asset)
    else:
        release.move(
            root, asset, label=label, version=version, reason="it passed", run=None, clock=FakeClock()
        )
    saved(root, f"Version {version}")
    return spec
