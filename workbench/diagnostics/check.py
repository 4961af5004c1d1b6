"""`workbench check`: read every declarative file as strictly as a run does."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial
from pathlib import Path

from workbench import config, files, layout, registry, retrieval
from workbench.config import UseCase
from workbench.config.assessments import check_known_classes
from workbench.diagnostics.budgets import check_met
from workbench.diagnostics.checked_files import Checked, CheckedFile, tried
from workbench.diagnostics.kinds import unknown_kinds
from workbench.diagnostics.noted_cases import noted_cases
from workbench.diagnostics.operations import operations, trusted_keys
from workbench.errors import ConfigError, WorkbenchError, nearest
from workbench.experiments import scorer_file
from workbench.experiments.dataset import Dataset
from workbench.experiments.gate_spec import CONTAMINATED, GateSpec, check_spec, check_tightens
from workbench.experiments.inputs import read
from workbench.experiments.metrics import ALWAYS
from workbench.experiments.runs import load_runs
from workbench.experiments.scorers import Scorer
from workbench.identities.keys import file_keys
from workbench.jobs import spec as jobspec
from workbench.jobs.schedule import Schedule
from workbench.layout import PARAMS, Results
from workbench.models import load_card
from workbench.models.approval import read_approvals
from workbench.models.assessment import read_assessment
from workbench.notebooks import inspection, screening
from workbench.policy.source import FOLDER, read_source
from workbench.policy.validation import validate
from workbench.privacy.repository import detector_of, rules_of
from workbench.promotion import assessed, release, verdicts
from workbench.promotion.approach import measured
from workbench.promotion.enforced import unenforced
from workbench.promotion.judgement import scorers_of, slicing_of
from workbench.prompts import prompt as prompts
from workbench.types import Page
from workbench.workspace import boundary, quality
from workbench.workspace.candidates import candidates
from workbench.workspace.examples import contaminated
from workbench.workspace.moderating import hooks_of
from workbench.workspace.save import read_generator
from workbench.workspace.saved_impact import load_impact
from workbench.workspace.use_case import check_data, stated_dataset

#: Returns the checked cases and pages of a use case, which are read once.
_Data = Callable[[], tuple[Dataset, list[Page]]]


def check_all(root: Path) -> Checked:
    """Check params.yaml, every asset and the dependencies of each use case; no notebook is run."""
    params = config.load_params(root)
    findings = [CheckedFile(what=str(PARAMS)), *_folders(root), *_assets(root)]
    findings += _assessments(root)
    if params.identity.keys and not params.identity.remote:
        findings.append(tried("identity: keys", partial(file_keys, root / params.identity.keys)))
    for name, case in params.use_cases.items():
        findings += _use_case(root, name, case)
    for name, job in params.jobs.items():
        findings.append(tried(f"job {name}: sample and schedule", partial(_look_at_job, root, name, job)))
    for name in params.budgets:
        findings.append(tried(f"budget {name}", partial(check_met, root, name, params)))
    if params.privacy != config.OwnTerms():
        findings.append(tried("privacy: lexicon and detectors", partial(detector_of, root)))
    findings += [CheckedFile(what=w, problem=p, warning=True) for w, p in unknown_kinds(root, params)]
    findings += [*operations(root, params), *trusted_keys(root)]
    findings += _policies(root, params)
    findings += _promoted(root)
    return Checked(findings=tuple(findings))


def _policies(root: Path, params: config.Params) -> Iterator[CheckedFile]:
    """Yield the problems of the repository's policies, and of use cases that must enforce them."""
    for name, case in params.use_cases.items():
        if problem := unenforced(name, case):
            yield CheckedFile(what=f"use case {name}: policy", problem=problem)
    if not (root / FOLDER).is_dir():
        return  # the built-in ones apply
    groups = {group for case in params.use_cases.values() for group in case.groups}
    try:
        found = validate(read_source(root), groups=groups)
    except WorkbenchError as error:
        yield CheckedFile(what=FOLDER, problem=str(error))
        return
    for item in found:
        yield CheckedFile(what=item.where, problem=f"{item.what}\n  -> {item.fix}", warning=item.warning)
    if not found:
        yield CheckedFile(what=FOLDER)


def _folders(root: Path) -> Iterator[CheckedFile]:
    """Yield a warning for each missing folder that the pipeline depends on."""
    needed = [f"pipelines/{registry.FOLDERS[kind]}" for kind in ("memory", "model", "prompt")]
    if any((root / layout.RESULTS).glob("*/settings")):  # the stage that creates it has run
        needed += [scorer_file.FOLDER, layout.QUALITY]
    for folder in needed:
        if not (root / folder).is_dir():
            problem = "it is missing, and dvc repro alone stops without it\n  -> make repro"
            yield CheckedFile(what=folder, problem=problem, warning=True)


def _assets(root: Path) -> Iterator[CheckedFile]:
    looks: dict[str, Callable[[Path, str], object]] = {
        "model": load_card,
        "prompt": _look_at_prompt,
        "memory": _look_at_memory,
        "generator": _look_at_generator,
    }
    for kind, look in looks.items():
        yield from _unlisted(root, kind)
        for name in registry.names(root, kind):
            what = f"pipelines/{registry.FOLDERS[kind]}/{name}"
            yield tried(what, partial(registry.load, root, kind, name))
            for reference in _references(root, kind, name):
                yield tried(f"{kind} {reference}", partial(look, root, reference))


def _assessments(root: Path) -> Iterator[CheckedFile]:
    """Yield the checks of each assessment and each file of approvals, also of models that nothing uses."""
    known = registry.names(root, "model")
    for path in sorted((root / layout.ASSESSMENTS).glob("[!.]*.yaml")):
        name, what = path.name.partition(".")[0], path.relative_to(root).as_posix()
        if name not in known or path.name not in {f"{name}.yaml", f"{name}.approvals.yaml"}:
            problem = f"no saved model has this file ({nearest(name, known)})\n  -> ls pipelines/models"
            yield CheckedFile(what=what, problem=problem, warning=True)
            continue
        read = read_approvals if path.name.endswith(".approvals.yaml") else read_assessment
        yield tried(what, partial(read, root, name))


def _unlisted(root: Path, kind: str) -> Iterator[CheckedFile]:
    """Yield the entries of a kind's folder that no reference reaches: without a readable asset.yaml."""
    known = set(registry.names(root, kind))
    entries = sorted((root / "pipelines" / registry.FOLDERS[kind]).glob("[!.]*"))
    for path in (entry for entry in entries if entry.name not in known):
        what = path.relative_to(root).as_posix()
        page = path / "asset.yaml"
        if path.is_symlink() or page.is_symlink():
            yield CheckedFile(what=what, problem=f"a link that leads nowhere\n  -> git checkout -- {what}")
        elif path.is_dir():
            problem = f"no asset.yaml lists its versions\n  -> workbench save {kind}/{path.name}"
            yield CheckedFile(what=what, problem=problem, warning=True)


def _look_at_generator(root: Path, reference: str) -> None:
    read_generator(registry.resolve(root, "generator", reference))


def _look_at_memory(root: Path, reference: str) -> None:
    spec = retrieval.load_spec(root, reference)
    if spec.data_class is not None:
        check_known_classes(f"{spec}: data_class", [spec.data_class], rules_of(root).actions)
    card = load_card(root, spec.embedding)
    if card.kind != "embedding":
        raise ConfigError(
            f"{spec}: embedding: the model {spec.embedding!r} is for {card.kind}, not for embedding",
            hint="name a model of kind: embedding in its draft, then: workbench save memory/" + spec.name,
        )


def _check_inside(root: Path, path: str, where: str) -> None:
    """Raise ConfigError when a path of params.yaml is or passes a link out of the repository."""
    real = Path(os.path.realpath(root / path))
    if not real.is_relative_to(os.path.realpath(root)):
        raise ConfigError(
            f"{where}: {path} leads out of the repository, to {real}",
            hint=f"copy it into the repository, in the place of the link: ls -l {path}",
        )


def _tape(root: Path, name: str) -> Iterator[CheckedFile]:
    """Yield the finding about a use case's tape; a warning when nothing is recorded yet."""
    for tape in (layout.judge_tape_of(name), layout.tape_of(name)):
        found = tried(f"{name}: {tape}", partial(boundary.open_tape, root / tape))
        if not found.problem and not (root / tape).is_file():
            stops = (root / Results(use_case=name).settings).exists()  # the stage that creates it has run
            problem = f"it is missing, and dvc repro alone {'stops without' if stops else 'creates'} it"
            problem += "\n  -> make repro"
            found = dataclasses.replace(found, problem=problem, warning=True)
        elif (
            not found.problem
            and tape == layout.judge_tape_of(name)
            and not len(boundary.open_tape(root / tape))
        ):
            problem = (
                "no judged answer is recorded yet: the next reproduction asks the model\n  -> make repro"
            )
            found = dataclasses.replace(found, problem=problem, warning=True)
        yield found


def _references(root: Path, kind: str, name: str) -> list[str]:
    try:
        return [f"{name}@{number}" for number in sorted(registry.load(root, kind, name).versions)]
    except WorkbenchError:
        return []  # `registry.load` reported it already


def _look_at_prompt(root: Path, reference: str) -> object:
    prompt, classes = prompts.load(root, reference, author="check"), rules_of(root).actions
    for name, declared in prompt.header.inputs.items():
        if declared.data_class not in classes:
            raise ConfigError(
                f"{reference}: inputs.{name}.data_class: there is no class {declared.data_class!r} "
                f"({nearest(declared.data_class, classes)})",
                hint="correct it, or add the class to data_classes in params.yaml",
            )
    return prompt


def _use_case(root: Path, name: str, case: UseCase) -> Iterator[CheckedFile]:
    def notebook() -> None:
        _check_inside(root, case.notebook, f"use_cases.{name}.notebook")
        found = inspection.read(root / case.notebook)
        found.typed(case.parameters)
        _look_at_frozen(found, case)

    if case.keepers is not None:
        problem = (
            f"the key is called admins now\n  -> rename use_cases.{name}.keepers to admins in params.yaml"
        )
        yield CheckedFile(what=f"{name}: keepers", problem=problem, warning=True)
    yield tried(f"{name}: {case.notebook}", notebook)
    yield from _screened(root, name, case)
    if case.prompt:
        yield tried(f"{name}: prompt {case.prompt}", lambda: _look_at_prompt(root, str(case.prompt)))
    yield from _models(root, name, case)
    yield from _assessed(root, name, case)
    data = cache(partial(check_data, root, name, case))  # three checks need it, and documents take long
    yield tried(f"{name}: {case.data} and its questions", data)
    yield from _contaminated(root, name, case, data)
    yield from noted_cases(root, name, lambda: data()[0])
    yield from _quality(root, name, case)
    yield from _tape(root, name)
    yield from _baseline(root, name, case)
    yield from _approach(root, name, case)
    if (impact := case.impact) is not None:
        yield tried(f"{name}: {impact}", lambda: load_impact(root, name, impact))
    if (rules := case.moderation) is not None:
        yield tried(f"{name}: moderation", lambda: hooks_of(root, rules, partial(load_card, root)))
    yield from _gates(root, name, case, data)


def _models(root: Path, name: str, case: UseCase) -> Iterator[CheckedFile]:
    """Yield the checks of the model of a use case and of each of its fall-backs."""
    yield tried(f"{name}: model {case.model_name}", lambda: boundary.card_of_use_case(root, case))
    yield from _prices(root, name, case)
    if not case.model_choice.fallback:
        return

    def fallbacks() -> None:
        primary = boundary.card_of_use_case(root, case)
        candidates(primary, case.model_choice.fallback, card_of=partial(load_card, root))

    named = ", ".join(case.model_choice.models) or "a stated answer"
    yield tried(f"{name}: fall-backs {named}", fallbacks)


def _assessed(root: Path, name: str, case: UseCase) -> Iterator[CheckedFile]:
    """Yield each problem of the assessments of a use case's models: in phase mvp one warning for all."""
    what, models = f"{name}: assessed models", assessed.models_of(root, case)
    found = assessed.problems(root, name, case, models)
    for model, day in assessed.ending(root, models):
        text = f"the approval of {model} ends on {day}\n  -> workbench assess {model.partition('@')[0]}"
        yield CheckedFile(what=f"{what}: {model}", problem=text, warning=True)
    if not found:
        yield CheckedFile(what=what)
    elif assessed.demanded(case):
        for problem in found:
            yield CheckedFile(what=what, problem=f"{problem.text}\n  -> {problem.fix}")
    else:
        texts = "\n  ".join(problem.text for problem in found)
        text = f"phase mlvp will refuse it:\n  {texts}\n  -> {found[0].fix}"
        yield CheckedFile(what=what, problem=text, warning=True)


def _prices(root: Path, name: str, case: UseCase) -> Iterator[CheckedFile]:
    """Yield the source of each list price; an unknown price is an error if a job needs it."""
    jobs = [job for job, declared in config.load_params(root).jobs.items() if declared.use_case == name]
    why = f"the job {jobs[0]} states what it costs" if jobs else "a gate on cost stays undecided"
    found = [partial(boundary.card_of_use_case, root, case)]
    found += [partial(load_card, root, model) for model in case.model_choice.models]
    for read_card in found:
        try:
            card = read_card()
        except WorkbenchError:
            continue  # reported with the model
        if card.price_per_million is not None:
            continue
        what = f"{name}: price of {card.reference}"
        checked = tried(what, partial(card.check_priced, why=why))
        if not checked.problem:
            checked = CheckedFile(what=f"{what}: list price of {card.price_source}")
        yield dataclasses.replace(checked, warning=not jobs)


def _quality(root: Path, name: str, case: UseCase) -> Iterator[CheckedFile]:
    """Yield a warning for each quality rule that rows of the dataset break, with the first ten rows."""
    if case.quality is None:
        return
    what = f"{name}: {case.quality}"
    try:
        report = quality.checked_dataset(root, name, case, stated_dataset(root, case)).report
    except WorkbenchError as error:
        yield CheckedFile(what=what, problem=str(error))
        return
    yield CheckedFile(what=f"{what}: {report.kept} of {report.rows} rows kept")
    for rule in report.broken:
        rows = [f"  {row}: {row.reason}" for row in rule.first]
        rows += [f"  and {rule.count - len(rule.first)} more"] * (rule.count > len(rule.first))
        problem = "\n".join([f"{rule.count} rows ({rule.severity})", *rows])
        problem += f"\n  -> workbench data check {name}"
        yield CheckedFile(what=f"{what}: {rule.rule}", problem=problem, warning=rule.severity != "stop")
    for line in report.drift_notes():
        fix = f"\n  -> workbench data profile {name}   # if the change is intended"
        warning = not any(item.startswith("drift") for item in report.stopped)
        yield CheckedFile(what=what, problem=line + fix, warning=warning)


def _look_at_frozen(notebook: inspection.Notebook, case: UseCase) -> None:
    """Raise ConfigError when the judge has nothing to run: no `inputs`, or no cell that publishes."""
    kept = [source for _, source, tags in notebook.cells if inspection.EXPLORE_TAG not in tags]
    if inspection.INPUTS not in notebook.parameters or not any(".publish(" in source for source in kept):
        raise ConfigError(
            f"{case.notebook}: the judge runs the cells without the tag `explore` on the dataset; they need "
            f"a parameter {inspection.INPUTS!r} and a cell that publishes",
            hint='write inputs = "" and ws.publish(answer.map(ws.inputs(inputs)), "answers")',
        )


def _screened(root: Path, name: str, case: UseCase) -> Iterator[CheckedFile]:
    """Yield a warning for what a promotion would refuse, and for cells that install packages."""
    try:
        notebook = inspection.read(root / case.notebook)
        installs = screening.installs(notebook)
        found = screening.screen(notebook, lock=files.read_bytes(root / layout.LOCK))
    except (WorkbenchError, OSError):
        return  # reported with the notebook, or by `workbench doctor`
    for finding in installs:
        problem = f"{finding.what}\n  -> {finding.fix}"
        yield CheckedFile(what=f"{name}: {finding.where}", problem=problem, warning=True)
    for finding in found:
        problem = f"{finding.what}: a promotion refuses it\n  -> {finding.fix}"
        yield CheckedFile(what=f"{name}: {finding.where}", problem=problem, warning=True)


def _contaminated(root: Path, name: str, case: UseCase, data: _Data) -> Iterator[CheckedFile]:
    """Yield a warning that names the cases whose text stands in the prompt or in solved examples."""
    try:
        found = contaminated(root, case, *data())
    except WorkbenchError:
        return  # reported with the prompt, the memory or the data
    if found.cases:
        problem = f"{found.text}\n  -> remove the cases or the examples, then: workbench check"
        yield CheckedFile(what=f"{name}: contamination", problem=problem, warning=True)


def _baseline(root: Path, name: str, case: UseCase) -> Iterator[CheckedFile]:
    """Yield a warning when the notebook explored no arm of the baseline's name, if it was reproduced."""
    try:
        arms = [run.arm for run in load_runs(root / Results(use_case=name).runs)]
    except WorkbenchError:
        return  # no runs, or damaged ones: the pipeline recreates them
    if case.baseline is not None and case.baseline not in arms:
        problem = f"the last reproduction kept no run of it ({nearest(case.baseline, arms)})\n  -> dvc repro"
        yield CheckedFile(what=f"{name}: baseline {case.baseline!r}", problem=problem, warning=True)


def _approach(root: Path, name: str, case: UseCase) -> Iterator[CheckedFile]:
    """Yield a warning when the last reproduction contradicts the recorded approach."""
    results = Results(use_case=name)
    try:
        run, arms = load_runs(root / results.judged)[0], load_runs(root / results.runs)
        found = measured(case, run, arms, None)
    except (WorkbenchError, IndexError):
        return  # nothing was reproduced yet, or the results are damaged: the pipeline recreates them
    if found is not None and (problem := found.problem or found.contradiction):
        fix = f"\n  -> change use_cases.{name}.approach in params.yaml, then: make repro"
        yield CheckedFile(what=f"{name}: approach", problem=problem + fix, warning=True)


def _look_at_job(root: Path, name: str, job: config.Job) -> None:
    _check_inside(root, job.sample, f"jobs.{name}.sample")
    read(root / job.sample)
    if job.schedule is not None:
        Schedule.parse(job.schedule.cron, job.schedule.timezone, where=f"params.yaml: jobs.{name}.schedule")


def _promoted(root: Path) -> Iterator[CheckedFile]:
    """Check every byte of each promoted version, and the list of stages."""
    for name in registry.names(root, "job"):
        yield tried(f"pipelines/jobs/{name}", partial(registry.load, root, "job", name))
        for reference in _references(root, "job", name):
            number = int(reference.partition("@")[2])
            yield tried(f"job {reference}", partial(jobspec.load, root, name, number))
    yield tried(str(layout.PROMOTED), partial(release.check_stages, root))


def _gates(root: Path, name: str, case: UseCase, data: _Data) -> Iterator[CheckedFile]:
    scorers = tried(f"{name}: scorers", partial(scorers_of, root, name, case))
    yield scorers
    yield tried(f"{name}: {layout.verdicts_of(name)}", partial(verdicts.read, root, name))
    specs = {}
    slices = cache(lambda: slicing_of(root, name, case, data()[0]))
    sliced = tried(f"{name}: slices {', '.join(case.slices)}", slices if case.slices else tuple)
    yield from [sliced] * bool(case.slices)
    for phase, column in case.gates.items():
        what = f"{name}: gates.{phase}"
        try:
            where = f"use_cases.{name}.gates.{phase}"
            specs[phase] = GateSpec.parse(column, where=where, slices=case.slices)
            if not scorers.problem:
                _look_at_metrics(specs[phase], scorers_of(root, name, case).scorers, phase)
            found = None if sliced.problem else slices()
            never = check_spec(specs[phase], len(data()[0]), sizes=found.sizes if found else {})
        except WorkbenchError as error:
            yield CheckedFile(what=what, problem=str(error))
            continue
        fix = "\n  -> workbench check   # with more cases, or another bound"
        yield CheckedFile(
            what=what, problem="; ".join(never) + fix * bool(never), warning=phase != case.phase
        )
        if "unscored_rate" not in column and phase == case.phase:
            problem = "no line limits unscored_rate, so unscored cases hold nothing back\n"
            problem += f"  -> unscored_rate: {{max: 0.02}} into {name}.gates.{phase}"
            yield CheckedFile(what=what, problem=problem, warning=True)
    if {"mvp", "mlvp"} <= set(specs):
        yield tried(
            f"{name}: mlvp only tightens",
            lambda: check_tightens(specs["mvp"], specs["mlvp"], where=f"{name}.gates"),
        )


def _look_at_metrics(spec: GateSpec, scorers: Sequence[Scorer], phase: str) -> None:
    """Raise ConfigError for a line on a metric that no scorer gives."""
    known = [scorer.name for scorer in scorers] + [*ALWAYS, CONTAMINATED]
    for rule in spec.rules:
        if rule.metric not in known:
            raise ConfigError(
                f"gates.{phase}: no scorer is called {rule.metric!r} ({nearest(rule.metric, known)})",
                hint=f"add it under scorers in params.yaml, for example {rule.metric}: contains",
            )
