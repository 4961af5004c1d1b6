"""Approvals of a job's version: who may give one, which count, and what production asks of them."""

# ruff: noqa: F811 - fixtures are imported

from __future__ import annotations

import dataclasses
import shlex
import shutil

import pytest
from approved_versions import (  # noqa: F401 - fixtures
    ADA,
    BOB,
    CAROL,
    NOW,
    ROLES,
    SEEDS,
    acting,
    approve,
    clock,
    committed,
    made,
    mlvp_repository,
    root,
    trusted,
)  # fmt: skip
from hypothesis import given
from hypothesis import strategies as st
from made_jobs import copied
from made_repositories import git, saved, tree
from signed_statements import entry_of, key_of

from workbench import files, registry
from workbench.attestations import Envelope, Statement, Subject, Trust, folder_of, store
from workbench.attestations.trust import KEYS
from workbench.diagnostics.operations import unapproved
from workbench.errors import ConfigError, PolicyError, RefusedError, WorkbenchError
from workbench.jobs.ledger import open_ledger
from workbench.policy import source as policies
from workbench.promotion import evidence
from workbench.promotion.job_approvals import APPROVAL, ApprovalRules, JobApproval, approvals_of, covers
from workbench.promotion.promote import ReleaseOptions, promote, rollback
from workbench.promotion.release_rights import release_rights
from workbench.promotion.run_rights import APPROVALS, authorise_run

FOLDER = folder_of("answers", 2)
REASON = "the sample's answers are right"


def order(**given):
    return ReleaseOptions(**{"clock": clock(), "show": False, **given})


def found(root, label="production", at=NOW):
    return approvals_of(root, "answers", 2, label, now=clock(at).now())


def reasons(root, **given):
    """Why nothing counts: the text of each refusal."""
    approvals = found(root, **given)
    assert approvals.counted == () and approvals.circumstances()["approvals"] == 0
    return [reason for _, reason in approvals.refused]


def put(root, key, *, digest="", name="", predicate_type=APPROVAL, commit=True, **changed):
    """Write and commit an approval that is written by hand and signed with a key."""
    version = registry.resolve(root, "job", "answers@2")
    stated = JobApproval(
        job="answers", version=2, label="production", principal=key.principal, assurance="authenticated",
        author="Bob", role="", reason="", at="2026-11-24T05:00:00Z", until="2027-01-01", nonce="a" * 32,
    )  # fmt: skip
    stated = dataclasses.replace(stated, **changed)
    statement = stated.statement(digest or version.digest)
    statement = dataclasses.replace(statement, predicate_type=predicate_type)
    path = store(root, "answers", 2, name or f"approval-{stated.nonce}", key.sign(statement))
    if commit:
        committed(root)
    return path


# -- the whole way


def test_a_version_goes_from_candidate_over_a_second_person_to_production_and_runs(root, monkeypatch):
    acting(monkeypatch, ADA)
    both = [entry_of(key_of(name, seed)) for name, seed in SEEDS.items()]  # Ada may approve other versions
    trusted(root, *both)
    card = promote(root, "job/answers@2", order(label="candidate", commit=True))
    (note,) = [note for note in card.notes if "lacks 1 approval" in note]
    assert "of bob or carol" in note and "workbench approve job/answers@2" in note
    dry = promote(root, "job/answers@2", order(dry_run=True))
    ((what, fix),) = dry.missing
    assert "job/answers@2 lacks 1 approval" in what and fix.startswith("workbench approve job/answers@2 ")
    assert "not yet, 1 missing" in dry.card().title
    before = tree(root / "pipelines")
    with pytest.raises(ConfigError, match="lacks 1 approval") as caught:
        promote(root, "job/answers@2", order())
    assert caught.value.exit_code == 1 and tree(root / "pipelines") == before

    acting(monkeypatch, BOB)
    done = approve(root, role="team lead", reason=REASON, commit=False)
    assert [reason for _, reason in found(root).refused] == ["it is not committed"]
    git(root, *shlex.split(done.command)[1:])
    (counted,) = found(root).counted
    assert (counted.principal, counted.assurance, counted.role) == (BOB, "authenticated", "team lead")

    acting(monkeypatch, ADA)
    assert promote(root, "job/answers@2", order(dry_run=True)).missing == ()
    promote(root, "job/answers@2", order(commit=True))
    assert registry.load(root, "job", "answers").labels["production"] == 2
    assert authorise_run(root, "answers", "acme", clock=clock()).policies == ("publish-outputs",)


def test_a_new_version_goes_over_the_label_candidate(root):
    for label, fixes in (("production", ["workbench promote job/answers --to candidate"]), ("candidate", [])):
        rights = release_rights(root, order(label=label).request("promote", "job", "answers", None))
        assert [blocker.fix for blocker in rights.blockers] == fixes
        assert rights.decision["allowed"] is not bool(fixes)
    for kind in ("prompt", "memory", "model"):  # their own rules apply
        assert release_rights(root, order().request("promote", kind, "answer", 1)).decision["allowed"]


def test_a_page_edited_by_hand_runs_nothing(root):
    page = root / "pipelines/jobs/answers/asset.yaml"
    page.write_text(page.read_text().replace("production: 1", "production: 2"))
    committed(root)
    with pytest.raises(PolicyError, match="lacks 1 approval") as caught:
        authorise_run(root, "answers", "acme", clock=clock())
    assert caught.value.policies == ("publish-approved",)
    assert "workbench approve job/answers@2" in caught.value.hint
    for reference in ("answers@2", "answers@production"):
        with pytest.raises(PolicyError):
            authorise_run(root, reference, None, clock=clock())
    assert authorise_run(root, "answers", "acme", role="shadow", clock=clock()).allowed


def test_a_run_asks_for_the_approvals_as_they_are_on_its_day(root):
    page = root / "pipelines/jobs/answers/asset.yaml"
    page.write_text(page.read_text().replace("production: 1", "production: 2"))
    approve(root)
    assert authorise_run(root, "answers", None, clock=clock()).allowed
    with pytest.raises(PolicyError, match="expired"):
        authorise_run(root, "answers", None, clock=clock("2027-11-24T06:00:00Z"))
    approve(root, revoke=True)
    with pytest.raises(PolicyError, match="revoked"):
        authorise_run(root, "answers", None, clock=clock())


def test_a_check_warns_of_a_version_in_production_whose_approvals_do_not_suffice(root):
    (warned,) = unapproved(root, clock=clock())
    assert (warned.what, warned.warning) == ("job answers in production", True)
    assert "job/answers@1 lacks 1 approval" in warned.problem
    assert "workbench approve job/answers@1" in warned.problem
    approve(root, "job/answers@1")
    assert list(unapproved(root, clock=clock())) == []
    promote(root, "job/answers@2", order(label="canary", commit=True))
    assert "lacks" in next(unapproved(root, clock=clock())).problem, (
        "production's run answers by the canary too"
    )


def test_a_check_warns_of_no_job_that_needs_no_approval(root):
    params = (root / "params.yaml").read_text().replace("phase: mlvp", "phase: mvp")
    saved(root, "Phase mvp", **{"params.yaml": params})
    assert authorise_run(root, "answers", None, clock=clock(), dry=True).allowed
    assert list(unapproved(root, clock=clock())) == []


def test_a_phase_that_is_edited_and_not_committed_ends_no_demand(root):
    (root / "params.yaml").write_text((root / "params.yaml").read_text().replace("phase: mlvp", "phase: mvp"))
    ((what, _),) = promote(root, "job/answers@2", order(dry_run=True)).missing
    assert "lacks 1 approval" in what
    with pytest.raises(PolicyError):
        authorise_run(root, "answers", None, clock=clock())


def test_phase_mvp_asks_for_no_approval(root):
    saved(root, **{"params.yaml": (root / "params.yaml").read_text().replace("phase: mlvp", "phase: mvp")})
    assert promote(root, "job/answers@2", order(dry_run=True)).missing == ()
    assert authorise_run(root, "answers", None, clock=clock()).allowed


def test_a_rollback_needs_no_approval_and_says_what_the_target_lacks(root):
    page = root / "pipelines/jobs/answers/asset.yaml"
    approve(root)
    promote(root, "job/answers@2", order(commit=True))
    card = rollback(root, "job/answers", order())
    (note,) = [note for note in card.notes if "approval" in note]
    assert card.version == 1 and "job/answers@1 lacks 1 approval" in note
    assert "production: 1" in page.read_text()


def test_a_torn_file_of_keys_stops_a_promotion_and_no_rollback(root):
    approve(root)
    promote(root, "job/answers@2", order(commit=True))
    saved(root, **{"pipelines/trust/keys.yaml": "keys: ["})
    with pytest.raises(ConfigError, match=r"keys\.yaml"):
        promote(root, "job/answers@1", order())
    with pytest.raises(ConfigError, match=r"keys\.yaml"):
        authorise_run(root, "answers", None, clock=clock())
    assert rollback(root, "job/answers", order()).version == 1


def test_a_policy_of_the_house_may_ask_for_more(root):
    more = (
        '@id("two") @reason("Two persons approve, one of whom did not write the notebook.")\n'
        'forbid (principal, action == Workbench::Action::"promote", resource)\n'
        'when { context.label == "production" && (context.approvals < 2 || context.independent < 1) };\n'
    )
    shutil.copytree(policies.BUILTIN, root / policies.FOLDER)
    (root / policies.FOLDER / "house.cedar").write_text(more)
    approve(root)
    ((what, _),) = promote(root, "job/answers@2", order(dry_run=True)).missing
    assert "lacks 1 approval of carol" in what
    with pytest.MonkeyPatch.context() as patch:
        acting(patch, CAROL)
        approve(root)
    assert promote(root, "job/answers@2", order(dry_run=True)).missing == ()


# -- what does not count, each by its name


MISFITS = (
    ({"principal": CAROL}, "it names carol, and the key is that of bob"),
    ({"author": "ada"}, "is the author of the version"),
    ({"author": " ADA"}, "is the author of the version"),
    ({"version": 1}, "approves job/answers@1, not answers@2"),
    ({"job": "other"}, "approves job/other@2"),
    ({"digest": "0" * 64}, "another job.yaml"),
    ({"label": "canary"}, "for the label canary, not production"),
    ({"label": "everywhere"}, "for the label everywhere"),
    ({"until": "2026-11-24"}, "it expired"),
    ({"at": "2026-11-24T06:06:00Z"}, "yet to come"),
    ({"assurance": "asserted"}, "not authenticated"),
    ({"name": f"approval-{'b' * 32}"}, "not named after its nonce"),
    ({"predicate_type": "urn:workbench:test:1"}, "no approval"),
    ({"nonce": "short"}, "another form"),
    ({"at": "yesterday"}, "another form"),
    ({"until": "20270101"}, "another form"),
)  # fmt: skip


def test_an_approval_that_does_not_fit_is_refused_by_name(root):
    key, names = key_of(BOB, SEEDS[BOB]), {}
    for number, (changed, why) in enumerate(MISFITS):
        path = put(root, key, commit=False, **{"nonce": f"{number:032x}", **changed})
        names[path.name.partition(".")[0]] = why
    committed(root)
    approvals = found(root)
    refused = dict(approvals.refused)
    assert approvals.counted == () and set(refused) == set(names) and len(names) == len(MISFITS)
    assert [(why, refused[name]) for name, why in names.items() if why not in refused[name]] == []
    ((what, _),) = promote(root, "job/answers@2", order(dry_run=True)).missing
    assert [why for why in names.values() if why not in what] == []


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"revoked_at": "2026-11-24T04:00:00Z"}, "revoked"),
        ({"revoked_at": "2026-11-24T05:30:00Z"}, "revoked"),  # who has the key may write any time before
        ({"roles": ("promoter",)}, "not as approver"),
        ({"until": "2026-11-01T00:00:00Z"}, "counted until"),
        ({"since": "2026-11-24T05:30:00Z"}, "counts from"),
        (None, "not trusted"),
    ],
)
def test_the_approval_of_a_key_that_is_not_trusted_then_is_refused_by_name(root, changed, why):
    key = key_of(BOB, SEEDS[BOB])
    put(root, key)
    assert len(found(root).counted) == 1
    entries = [] if changed is None else [entry_of(key, **{"roles": ROLES[BOB], **changed})]
    trusted(root, *entries)
    (reason,) = reasons(root)
    assert why in reason


def test_a_trusted_key_that_is_not_committed_approves_nothing(root):
    stranger = key_of("eve@acme.example", 7)
    put(root, stranger, author="Eve")
    (root / KEYS).write_bytes(Trust(keys={stranger.key_id: entry_of(stranger)}).to_bytes())
    assert "not trusted" in reasons(root)[0]


@pytest.fixture(scope="module")
def rules(made):
    return ApprovalRules.load(made, "answers", 2, "production", now=clock().now())


@given(st.integers(0, 10_000), st.integers(1, 255))
def test_no_changed_byte_of_an_approval_counts(rules, place, change):
    approval = JobApproval(
        job="answers", version=2, label="production", principal=BOB, assurance="authenticated",
        author="Bob", role="", reason="", at="2026-11-24T05:00:00Z", until="2027-01-01", nonce="a" * 32,
    )  # fmt: skip
    data = bytearray(key_of(BOB, SEEDS[BOB]).sign(approval.statement(rules.digest)).to_bytes())
    assert rules.checked(Envelope.parse(bytes(data), where="it"), "a" * 32) == approval
    data[place % len(data)] ^= change
    with pytest.raises(WorkbenchError):
        rules.checked(Envelope.parse(bytes(data), where="it"), "a" * 32)


def test_an_approval_of_another_version_and_of_another_repository_is_refused(root, tmp_path):
    approve(root, "job/answers@1")
    (source,) = (root / folder_of("answers", 1)).iterdir()
    (root / FOLDER).mkdir(parents=True)
    shutil.copy(source, root / FOLDER)
    committed(root)
    assert "approves job/answers@1, not answers@2" in reasons(root)[0]

    other = copied(root, tmp_path / "other")
    shutil.rmtree(other / FOLDER)
    shutil.rmtree(root / FOLDER)
    page = other / "pipelines/jobs/answers/2/job.yaml"
    page.write_text(page.read_text().replace("value: 3", "value: 4"))
    digest = files.digest(page.read_bytes())
    asset = registry.load(other, "job", "answers")
    entry = dataclasses.replace(asset.versions[2], digest=digest)
    registry.write(other, dataclasses.replace(asset, versions={**asset.versions, 2: entry}))
    with pytest.MonkeyPatch.context() as patch:
        acting(patch, ADA)
        committed(other)
    approve(other)
    shutil.copytree(other / FOLDER, root / FOLDER)
    committed(root)
    assert "another job.yaml" in reasons(root)[0]


def test_what_is_no_envelope_counts_for_nobody(root):
    for number, data in enumerate((b"", b"{}", b"\xff", b"[" * 9_000)):
        files.write_atomic(root / FOLDER / f"approval-{number}.dsse.json", data)
    (root / FOLDER / "approval-link.dsse.json").symlink_to(root / "params.yaml")
    committed(root)
    assert len(reasons(root)) == 5


def test_a_revocation_holds_although_its_file_is_removed(root):
    approve(root)
    done = approve(root, revoke=True)
    assert reasons(root) == ["it was revoked"] and done.revoked
    git(root, "rm", "--quiet", *done.paths)
    committed(root)
    assert reasons(root) == ["it was revoked"]
    approve(root)
    assert len(found(root).counted) == 1


def test_a_person_counts_once_and_the_author_of_the_notebook_is_not_independent(root, monkeypatch):
    key = key_of(BOB, SEEDS[BOB])
    put(root, key)
    put(root, key, nonce="b" * 32)
    assert found(root).circumstances() == {"label": "production", "approvals": 1, "independent": 1}
    assert found(root).approvers == (CAROL,)
    page = root / "pipelines/jobs/answers/2/job.yaml"
    assert "notebooks/n.ipynb" in page.read_text()
    saved(root, "Bob writes the notebook", **{"notebooks/n.ipynb": "{}"})
    spec = registry.load(root, "job", "answers").versions[2]
    commit = page.read_text().split("commit: ")[1].split("\n")[0]
    text = page.read_text().replace(commit, git(root, "rev-parse", "HEAD"))
    page.write_text(text)
    asset = registry.load(root, "job", "answers")
    digest = files.digest(text.encode())
    registry.write(
        root,
        dataclasses.replace(asset, versions={**asset.versions, 2: dataclasses.replace(spec, digest=digest)}),
    )
    monkeypatch.setenv("GIT_AUTHOR_EMAIL", "ada@acme.example")
    monkeypatch.setenv("GIT_AUTHOR_NAME", "Ada")
    committed(root)
    put(root, key, nonce="c" * 32)
    assert found(root).circumstances() == {"label": "production", "approvals": 1, "independent": 0}


@pytest.mark.parametrize(("seed", "why"), [(BOB, "is the author"), ("eve@acme.example", "not trusted")])
def test_who_signed_the_provenance_is_the_author(root, seed, why):
    signer = key_of(seed, SEEDS.get(seed, 9))
    provenance = Statement(
        predicate_type="https://slsa.dev/provenance/v1",
        subjects=(Subject(name="job.yaml", sha256=registry.resolve(root, "job", "answers@2").digest),),
        predicate={},
    )
    put(root, key_of(BOB, SEEDS[BOB]))
    store(root, "answers", 2, "provenance", signer.sign(provenance))
    committed(root)
    (reason,) = reasons(root)
    assert why in reason


def test_an_approval_holds_for_the_label_it_is_for_and_for_smaller_ones():
    assert all(covers("production", label) for label in ("production", "canary", "shadow", "candidate", ""))
    assert covers("canary", "shadow") and not covers("canary", "production") and not covers("canary", "")
    assert covers("odd", "odd") and not covers("odd", "candidate") and not covers("production", "odd")


# -- who answers


def labelled(root, **labels):
    """Move labels by hand, and commit that."""
    asset = registry.load(root, "job", "answers")
    registry.write(root, dataclasses.replace(asset, labels={**asset.labels, **labels}))
    committed(root)


def test_the_version_that_runs_instead_of_a_withdrawn_one_needs_its_own_approval(root):
    asset = registry.load(root, "job", "answers")
    registry.write(root, registry.moved(asset, dataclasses.replace(asset.moves[0], version=2)))
    committed(root)
    approve(root)
    assert authorise_run(root, "answers", None, clock=clock()).allowed
    open_ledger(root, clock()).withdraw("answers", 2, by="bob", reason="wrong answers")
    with pytest.raises(PolicyError, match="answers@1 lacks 1 approval"):
        authorise_run(root, "answers", None, clock=clock())
    approve(root, "job/answers@1")
    assert authorise_run(root, "answers", None, clock=clock()).allowed
    with pytest.raises(RefusedError, match="withdrawn"):
        authorise_run(root, "answers@2", None, clock=clock())


def test_a_canary_answers_for_production_with_its_own_approval(root):
    approve(root, "job/answers@1")
    labelled(root, canary=2)
    with pytest.raises(PolicyError, match="answers@2 lacks 1 approval"):
        authorise_run(root, "answers", None, clock=clock())
    assert authorise_run(root, "answers@1", None, role="shadow", clock=clock()).allowed
    approve(root)
    assert authorise_run(root, "answers", None, clock=clock()).allowed


def test_a_label_shadow_does_not_let_a_version_publish(root):
    labelled(root, shadow=2)
    for reference in ("answers@shadow", "answers@2"):
        with pytest.raises(PolicyError, match="answers@2 lacks 1 approval"):
            authorise_run(root, reference, None, clock=clock())
    assert authorise_run(root, "answers", None, role="shadow", clock=clock()).allowed


def test_a_run_looks_for_approvals_where_they_are_stored(root):
    assert [*root.glob(APPROVALS.format(job="answers", version=2))] == []
    (path,) = approve(root).paths
    assert [*root.glob(APPROVALS.format(job="answers", version=2))] == [root / path]


def test_an_auditor_verifies_an_approval_among_the_evidence(root):
    (path,) = approve(root).paths
    name = path.rpartition("/")[2].removesuffix(".dsse.json")
    found = evidence.verify(root, "job/answers@2")
    (signed,) = found.statements
    assert (signed.name, signed.predicate_type, signed.principal) == (name, APPROVAL, BOB)
    trusted(root, entry_of(key_of(BOB, SEEDS[BOB]), roles=("promoter",)))
    faults = {fault.file: fault.what for fault in evidence.verify(root, "job/answers@2").faults}
    assert "not as approver" in faults[f"statements/{name}.dsse.json"]
