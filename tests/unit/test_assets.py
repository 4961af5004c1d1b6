from __future__ import annotations

import dataclasses
import multiprocessing
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench import registry
from workbench.errors import ConfigError, CorruptError, NotFoundError
from workbench.registry import Asset, Move, VersionEntry


def save(root, text, *, name="answer", parent=None):
    return registry.save_version(
        root, "prompt", name, text.encode(), author="a", reason=f"because {text}", parent=parent
    )


def label(root, text):
    page = registry.folder_of(root, "prompt", "answer") / "asset.yaml"
    page.write_text(page.read_text().replace("labels: {}", f"labels:\n  {text}"))


def test_versions_are_numbered_and_resolved_by_number_label_and_name(tmp_path):
    assert [str(save(tmp_path, text)) for text in ("one", "two", "three")] == [
        "answer@1", "answer@2", "answer@3",
    ]  # fmt: skip
    label(tmp_path, "production: 2")
    found = {
        ref: registry.resolve(tmp_path, "prompt", ref).number
        for ref in ("answer", "answer@1", "answer@production")
    }
    assert found == {"answer": 3, "answer@1": 1, "answer@production": 2}
    assert registry.resolve(tmp_path, "prompt", "answer@1").path.read_bytes() == b"one"


@pytest.mark.parametrize(
    ("reference", "said"),
    [
        ("anser", "nearest: 'answer'"),
        ("answer@7", r"no version 7 \(known: answer@1\)"),
        ("answer@prod", r"no label 'prod' \(nearest: 'production'\)"),
    ],
)
def test_what_is_not_there_is_answered_with_the_nearest(tmp_path, reference, said):
    save(tmp_path, "one")
    label(tmp_path, "production: 1")
    with pytest.raises(NotFoundError, match=said):
        registry.resolve(tmp_path, "prompt", reference)


@pytest.mark.parametrize("text", ["", "a b", "answer@", "../x", "a@b@c", "answer@²"])
def test_what_is_no_reference_is_refused(tmp_path, text):
    save(tmp_path, "one")
    with pytest.raises((ConfigError, NotFoundError)):
        registry.resolve(tmp_path, "prompt", text)


def test_a_saved_version_that_was_edited_or_deleted_is_refused_with_the_way_back(tmp_path):
    version = save(tmp_path, "one")
    version.path.write_bytes(b"One")
    with pytest.raises(CorruptError, match="was changed after it was saved") as caught:
        registry.resolve(tmp_path, "prompt", "answer@1")
    assert "git checkout" in caught.value.hint
    version.path.unlink()
    with pytest.raises(CorruptError, match="is missing"):
        registry.resolve(tmp_path, "prompt", "answer@1")


def test_a_label_to_nowhere_and_a_page_of_another_name_are_refused(tmp_path):
    save(tmp_path, "one")
    label(tmp_path, "production: 4")
    with pytest.raises(ConfigError, match="names version 4"):
        registry.resolve(tmp_path, "prompt", "answer")
    save(tmp_path, "one", name="other").path.parent.rename(tmp_path / "pipelines/prompts/third")
    with pytest.raises(ConfigError, match="is the page of prompt 'other'"):
        registry.resolve(tmp_path, "prompt", "third")


def test_threads_and_processes_that_save_at_once_get_different_numbers(tmp_path):
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda n: save(tmp_path, f"t{n}"), range(4)))
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=save, args=(tmp_path, f"p{n}")) for n in range(3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(20)
    assert sorted(registry.load(tmp_path, "prompt", "answer").versions) == list(range(1, 8))
    texts = {registry.resolve(tmp_path, "prompt", f"answer@{n}").path.read_text() for n in range(1, 8)}
    assert texts == {"t0", "t1", "t2", "t3", "p0", "p1", "p2"}


def test_a_file_whose_saver_died_before_the_page_is_nobodys_version(tmp_path):
    save(tmp_path, "one")
    (registry.folder_of(tmp_path, "prompt", "answer") / "2.prompty").write_text("half")
    assert registry.resolve(tmp_path, "prompt", "answer").number == 1
    assert save(tmp_path, "two").path.read_text() == "two"


def test_the_frame_has_one_row_per_version_with_its_labels(tmp_path):
    save(tmp_path, "one")
    save(tmp_path, "two", parent=1)
    label(tmp_path, "production: 2")
    rows = registry.frame(tmp_path).select("name", "version", "labels", "parent").rows()
    assert rows == [("answer", 1, [], None), ("answer", 2, ["production"], 1)]


# -- labels and their moves

TEXTS = st.text(st.characters(codec="utf-8") | st.sampled_from("\n\t\r\x7f\x85\u2028\u2029\ufeff"))


def an_asset(moves=(), *, labels=None, versions=range(1, 10), **given):
    entries = {n: VersionEntry(digest="d", author="a", reason="r", **given) for n in versions}
    asset = Asset(kind="prompt", name="answer", versions=entries, labels=labels or {})
    for label, version in moves:
        asset = registry.moved(asset, a_move(label, version))
    return asset


def a_move(label, version, **given):
    usual = {"by": "Ada", "at": "2026-11-24T06:00:00+00:00", "reason": "why"}
    return Move(label=label, version=version, **{**usual, **given})


def round_trip(root, asset):
    registry.folder_of(root, asset.kind, asset.name).mkdir(parents=True, exist_ok=True)
    page = registry.write(root, asset)
    return registry.load(root, asset.kind, asset.name), page.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("moves", "before"),
    [
        ([], None),
        ([1], None),
        ([1, 2], 1),
        ([1, 2, 3], 2),
        ([1, 2, 3, 2], 1),  # went back: 3 is not before 2
        ([1, 2, 3, 2, 1], None),
        ([1, 2, 3, 1], None),  # two steps at once
        ([1, 2, 1, 3], 1),  # 2 was rolled back over
        ([1, 2, 1, 2], 1),  # and promoted again
        ([3, 1], 3),  # a lower number is no older promotion
        ([2, 2], None),
    ],
)
def test_before_is_the_promotion_that_the_present_one_followed(moves, before):
    assert an_asset([("production", n) for n in moves]).before("production") == before


@given(moves=st.lists(st.tuples(st.sampled_from(registry.LABELS), st.integers(1, 5)), max_size=12))
def test_going_back_again_and_again_goes_further_back_and_ends(moves):
    asset = an_asset(moves)
    for label in registry.LABELS:
        mine = [version for name, version in moves if name == label]
        assert asset.labels.get(label) == (mine[-1] if mine else None)
        seen, going = mine[-1:], asset
        while (back := going.before(label)) is not None:
            assert back in mine and back not in seen, "never where one has been on the way back"
            seen.append(back)
            going = registry.moved(going, a_move(label, back))
        others = [name for name in registry.LABELS if name != label]
        assert all(going.before(other) == asset.before(other) for other in others), "labels are apart"


@given(first=st.lists(st.integers(1, 5), max_size=6), new=st.integers(6, 9))
def test_going_back_undoes_a_promotion(first, new):
    asset = an_asset([("production", n) for n in first])
    promoted = registry.moved(asset, a_move("production", new))
    assert promoted.before("production") == asset.labels.get("production")
    if first:
        back = registry.moved(promoted, a_move("production", first[-1]))
        assert back.labels == asset.labels and back.before("production") == asset.before("production")


@settings(max_examples=60)
@given(author=TEXTS, reason=TEXTS, run=st.none() | TEXTS.filter(bool))
def test_the_page_reads_back_as_it_was_written_whatever_people_write(tmp_path_factory, author, reason, run):
    versions = {1: VersionEntry(digest="d", author=author, reason=reason, parent=None, run=run)}
    versions[2] = VersionEntry(digest="e", author="Ada", reason="r: #x, [y]", parent=1)
    asset = Asset(kind="job", name="on", versions=versions)
    asset = registry.moved(asset, a_move("production", 1, by=author, reason=reason, run=run))
    found, text = round_trip(tmp_path_factory.mktemp("page"), asset)
    assert found == asset
    assert round_trip(tmp_path_factory.mktemp("again"), found)[1] == text


@pytest.mark.parametrize(
    "text", ["null", "1", "yes", "~", "- a", "a: b", "#", "'", '"', "\\", "{{x}}", "%YAML", ""]
)
def test_words_that_yaml_has_a_meaning_for_stay_words(tmp_path, text):
    if text.isalnum():
        assert round_trip(tmp_path, dataclasses.replace(an_asset(versions=[1]), name=text))[0].name == text
    asset = an_asset([("candidate", 1)], versions=[1])
    asset = registry.moved(asset, a_move("production", 1, by=text, reason=text))
    assert round_trip(tmp_path, asset)[0] == asset


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("moves:", "movs:", r"unknown key 'movs' \(nearest: 'moves'"),
        ('by: "Ada"', 'bye: "Ada"', r"unknown key 'moves\.0\.bye'"),
        ("    author:", "    autor:", r"unknown key 'versions\.1\.autor' \(nearest: 'author'"),
        ("version: 1", 'version: "1"', r"moves\.0\.version: input should be a valid integer"),
        ("  production: 1", "  production: 7", "label 'production' names version 7"),
        ("kind: prompt", "kind: prompts", "kind: input should be"),
    ],
)
def test_a_page_that_was_edited_into_another_form_is_one_clear_error(tmp_path, before, after, said):
    _, text = round_trip(tmp_path, an_asset([("production", 1)], versions=[1]))
    assert text.count(before) == 1
    page = registry.folder_of(tmp_path, "prompt", "answer") / "asset.yaml"
    page.write_text(text.replace(before, after))
    with pytest.raises(ConfigError, match=said):
        registry.load(tmp_path, "prompt", "answer")


def merged(tmp_path, ours, theirs, base):
    """What git makes of three pages, and whether it calls that a conflict."""
    paths = []
    for name, asset in (("ours", ours), ("base", base), ("theirs", theirs)):
        paths.append(tmp_path / name)
        paths[-1].write_text(round_trip(tmp_path / f"{name}.root", asset)[1])
    command = ["git", "merge-file", "-p", *map(str, paths)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout, done.returncode > 0


def loaded(tmp_path, text):
    page = registry.folder_of(tmp_path, "prompt", "answer") / "asset.yaml"
    page.parent.mkdir(parents=True)
    page.write_text(text)
    return registry.load(tmp_path, "prompt", "answer")


def test_a_version_of_one_branch_and_a_move_of_another_merge_to_both(tmp_path):
    base = an_asset([("production", 1)], versions=[1, 2])
    ours = dataclasses.replace(base, versions={**base.versions, 3: base.versions[1]})
    theirs = registry.moved(base, a_move("production", 2))
    text, conflict = merged(tmp_path, ours, theirs, base)
    assert not conflict
    assert loaded(tmp_path, text) == dataclasses.replace(theirs, versions=ours.versions)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (
            {3: VersionEntry(digest="o", author="a", reason="ours")},
            {3: VersionEntry(digest="t", author="b", reason="x")},
        ),
        (
            {3: VersionEntry(digest="o", author="a", reason="ours")},
            {4: VersionEntry(digest="t", author="b", reason="x")},
        ),
    ],
    ids=["of the same number", "of another number"],
)
def test_versions_that_two_branches_add_are_a_conflict_and_never_read_half(tmp_path, ours, theirs):
    base = an_asset([("production", 1)], versions=[1, 2])
    pages = [dataclasses.replace(base, versions={**base.versions, **new}) for new in (ours, theirs)]
    text, conflict = merged(tmp_path, *pages, base)
    assert conflict and text.count("<<<<<<<") == 1
    with pytest.raises(ConfigError, match=r"asset\.yaml:\d+: "):
        loaded(tmp_path, text)
    both = text.replace("=======\n", "")
    kept = "".join(line for line in both.splitlines(keepends=True) if line[:7] not in {"<<<<<<<", ">>>>>>>"})
    if ours.keys() != theirs.keys():  # both sides kept is the page of both
        assert loaded(tmp_path / "kept", kept).versions == {**base.versions, **ours, **theirs}


def test_moves_of_two_branches_are_a_conflict_of_the_label_itself(tmp_path):
    base = an_asset([("production", 1)], versions=[1, 2, 3])
    ours, theirs = (registry.moved(base, a_move("production", n)) for n in (2, 3))
    text, conflict = merged(tmp_path, ours, theirs, base)
    assert conflict and "  production: 2\n" in text and "  production: 3\n" in text


def test_looking_at_an_asset_that_is_not_there_makes_none(tmp_path):
    asset = registry.load_or_new(tmp_path, "job", "answers")
    assert (asset.versions, asset.labels, asset.moves) == ({}, {}, ()) and not list(tmp_path.iterdir())
    with pytest.raises(NotFoundError, match="no job 'answers'"):
        registry.load(tmp_path, "job", "answers")


def test_thousands_of_versions_and_moves_are_read_in_a_second(tmp_path):
    said = 'it, "version: 3" {by: x}\u2028 # é'
    asset = registry.Asset(
        kind="prompt",
        name="answer",
        versions={
            n: registry.VersionEntry(digest="a" * 64, author=said, reason=said, parent=n - 1 or None)
            for n in range(1, 3001)
        },
        labels={"candidate": 7, "production": 3},
        moves=tuple(
            registry.Move(label="production", version=n, by=said, at="2026", reason=said, run=said)
            for n in range(1, 1001)
        ),
    )
    registry.write(tmp_path, asset)
    began = time.process_time()
    assert registry.load(tmp_path, "prompt", "answer") == asset
    assert time.process_time() - began < 4


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("labels: {}", "labels:  {}"), ("  1:", "  1: # the first"), ("parent: null", "parent: ~"),
        ('"ann"', "ann"), ("name: answer", 'name: "answer"'), ("kind: prompt\n", ""),
        ("versions:", "moves: []\nversions:"),
    ],
)  # fmt: skip
def test_a_page_that_a_person_wrote_is_read_as_yaml(tmp_path, before, after):
    entry = registry.VersionEntry(digest="a" * 64, author="ann", reason="first")
    asset = registry.Asset(kind="prompt", name="answer", versions={1: entry})
    page = registry.write(tmp_path, asset)
    text = page.read_text()
    assert before in text
    page.write_text(text.replace(before, after) + ("kind: prompt\n" if after == "" else ""))
    assert registry.load(tmp_path, "prompt", "answer") == asset
