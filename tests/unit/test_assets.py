from __future__ import annotations

import multiprocessing
from concurrent.futures import ThreadPoolExecutor

import pytest

from workbench import assets
from workbench.errors import ConfigError, CorruptError, NotFoundError


def save(root, text, *, name="answer", parent=None):
    return assets.save_version(
        root, "prompt", name, text.encode(), author="a", reason=f"because {text}", parent=parent
    )


def label(root, text):
    page = assets.folder_of(root, "prompt", "answer") / "asset.yaml"
    page.write_text(page.read_text().replace("labels: {}", f"labels:\n  {text}"))


def test_versions_are_numbered_and_resolved_by_number_label_and_name(tmp_path):
    assert [str(save(tmp_path, text)) for text in ("one", "two", "three")] == [
        "answer@1", "answer@2", "answer@3",
    ]  # fmt: skip
    label(tmp_path, "production: 2")
    found = {
        ref: assets.resolve(tmp_path, "prompt", ref).number
        for ref in ("answer", "answer@1", "answer@production")
    }
    assert found == {"answer": 3, "answer@1": 1, "answer@production": 2}
    assert assets.resolve(tmp_path, "prompt", "answer@1").path.read_bytes() == b"one"


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
        assets.resolve(tmp_path, "prompt", reference)


@pytest.mark.parametrize("text", ["", "a b", "answer@", "../x", "a@b@c"])
def test_what_is_no_reference_is_refused(tmp_path, text):
    save(tmp_path, "one")
    with pytest.raises((ConfigError, NotFoundError)):
        assets.resolve(tmp_path, "prompt", text)


def test_a_saved_version_that_was_edited_or_deleted_is_refused_with_the_way_back(tmp_path):
    version = save(tmp_path, "one")
    version.path.write_bytes(b"One")
    with pytest.raises(CorruptError, match="was changed after it was saved") as caught:
        assets.resolve(tmp_path, "prompt", "answer@1")
    assert "git checkout" in caught.value.hint
    version.path.unlink()
    with pytest.raises(CorruptError, match="is missing"):
        assets.resolve(tmp_path, "prompt", "answer@1")


def test_a_label_to_nowhere_and_a_page_of_another_name_are_refused(tmp_path):
    save(tmp_path, "one")
    label(tmp_path, "production: 4")
    with pytest.raises(ConfigError, match="points to version 4"):
        assets.resolve(tmp_path, "prompt", "answer")
    save(tmp_path, "one", name="other").path.parent.rename(tmp_path / "pipelines/prompts/third")
    with pytest.raises(ConfigError, match="calls itself prompt 'other'"):
        assets.resolve(tmp_path, "prompt", "third")


def test_threads_and_processes_that_save_at_once_get_different_numbers(tmp_path):
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda n: save(tmp_path, f"t{n}"), range(4)))
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=save, args=(tmp_path, f"p{n}")) for n in range(3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(20)
    assert sorted(assets.load(tmp_path, "prompt", "answer").versions) == list(range(1, 8))
    texts = {assets.resolve(tmp_path, "prompt", f"answer@{n}").path.read_text() for n in range(1, 8)}
    assert texts == {"t0", "t1", "t2", "t3", "p0", "p1", "p2"}


def test_a_file_whose_saver_died_before_the_page_is_nobodys_version(tmp_path):
    save(tmp_path, "one")
    (assets.folder_of(tmp_path, "prompt", "answer") / "2.prompty").write_text("half")
    assert assets.resolve(tmp_path, "prompt", "answer").number == 1
    assert save(tmp_path, "two").path.read_text() == "two"


def test_the_frame_has_one_row_per_version_with_its_labels(tmp_path):
    save(tmp_path, "one")
    save(tmp_path, "two", parent=1)
    label(tmp_path, "production: 2")
    rows = assets.frame(tmp_path).select("name", "version", "labels", "parent").rows()
    assert rows == [("answer", 1, [], None), ("answer", 2, ["production"], 1)]
