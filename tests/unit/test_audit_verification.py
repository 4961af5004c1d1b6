"""Verifying: every change of a log is found, and the first bad row is named."""

import os
import random
import shutil

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sizes import SEED, SOAK

from workbench.audit import Chain, ChainOptions, verification, verify
from workbench.audit.lines import GENESIS, HEAD, Head, line_of, row_of, segments_of
from workbench.audit.signing import Signer
from workbench.errors import ConfigError, NotFoundError

ROWS = 12
#: Numbers of the rows of the log: 12 calls and checkpoints after 5, 10 and at the end.
LAST = 15


def made(folder, rows=ROWS, *, first=0):
    chain = Chain(
        folder / "audit", folder / "keys", ChainOptions(segment_bytes=1_500, seconds=60, rows=10**6)
    )
    for n in range(first, rows):
        chain.append({"activity": "call", "time_dt": "2026-11-30T09:00:00+00:00", "n": n})
        if n in (4, 8):
            chain.checkpoint()
    chain.close()
    return folder


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    folder = made(tmp_path_factory.mktemp("log"))
    (folder / "public.pem").write_bytes(Signer.load(folder / "keys").public_pem())
    assert check(folder).passed and check(folder).last == LAST and len(segments_of(folder / "audit")) > 2
    return folder


def check(folder, audit=None, **how):
    return verify(audit or folder / "audit", [folder / "public.pem"], **how)


def lines_of(folder) -> list[bytes]:
    return [line for path in segments_of(folder / "audit") for line in path.read_bytes().splitlines()]


def rewritten(log, folder, lines: list[bytes], *, forged: bool = False):
    """Return a copy of the log whose rows are these lines, with the log's own head, or a forged one."""
    shutil.copytree(log / "audit", folder)
    for path in segments_of(folder):
        path.unlink()
    segment = folder / "2026-11-30.000000000001.jsonl"
    size = segment.write_bytes(b"".join(line + b"\n" for line in lines))
    if forged:
        last = row_of(lines[-1])
        head = Head(segment=segment.name, size=size, seq=last["seq"], digest=last["hash"], signed=0)
        (folder / HEAD).write_bytes(head.encoded())
    return folder


def test_every_single_byte_change_is_found(log, tmp_path):
    folder = tmp_path / "audit"
    shutil.copytree(log / "audit", folder)
    chosen, seq = random.Random(17), 0
    for path in (*segments_of(folder), folder / HEAD):
        data = path.read_bytes()
        for at in range(SEED % 7, len(data), 1 if SOAK else 7):
            changed = bytearray(data)
            changed[at] ^= chosen.randrange(1, 256)
            path.write_bytes(changed)
            found = check(log, folder)
            bad = seq + data.count(b"\n", 0, at) + 1
            assert not found.passed, (path.name, at)
            assert path.name == HEAD or found.problems[0].row == bad, (path.name, at, found.problems)
        path.write_bytes(data)
        seq += data.count(b"\n")
    assert check(log, folder).passed


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_a_dropped_swapped_doubled_or_foreign_row_is_found(log, tmp_path_factory, data):
    lines = lines_of(log)
    n = data.draw(st.integers(0, len(lines) - 1))
    kind = data.draw(st.sampled_from(["drop", "swap", "double", "foreign", "cut"]))
    if kind == "drop":
        changed, bad = lines[:n] + lines[n + 1 :], n + 1
    elif kind == "swap":
        m = data.draw(st.integers(0, len(lines) - 1).filter(lambda m: m != n))
        changed = list(lines)
        changed[n], changed[m] = changed[m], changed[n]
        bad = min(n, m) + 1
    elif kind == "double":
        changed, bad = [*lines[: n + 1], lines[n], *lines[n + 1 :]], n + 1
    elif kind == "foreign":
        other, _ = line_of({"activity": "call", "time_dt": "x"}, seq=n + 1, prev=GENESIS)
        changed, bad = [*lines[:n], other, *lines[n + 1 :]], n + 1
    else:
        changed, bad = lines[:n], n + 1
    folder = rewritten(log, tmp_path_factory.mktemp("changed") / "audit", changed)
    found = check(log, folder)
    assert not found.passed and found.problems[0].row in {bad, bad + 1}, (kind, n, found.problems)


def rechained(lines: list[bytes], begin: int, change) -> list[bytes]:
    """Return the lines with row `begin` changed, and every later one chained to it again."""
    made = lines[:begin]
    prev = row_of(made[-1])["hash"] if made else GENESIS
    for n, line in enumerate(lines[begin:], start=begin):
        fields = {name: value for name, value in row_of(line).items() if name not in ("hash", "prev", "seq")}
        again, prev = line_of(change(fields) if n == begin else fields, seq=n + 1, prev=prev)
        made.append(again)
    return made


@pytest.mark.parametrize("begin", [0, 3, 7, 11])
def test_rows_that_were_replaced_with_all_digests_after_them_break_the_next_signature(log, tmp_path, begin):
    changed = rechained(lines_of(log), begin, lambda row: {**row, "n": 99})
    folder = rewritten(log, tmp_path / "audit", changed, forged=True)
    found = check(log, folder)
    assert not found.passed and found.problems[0].row <= begin + 1
    assert "does not sign" in found.problems[0].what


def test_a_log_without_any_signature_is_not_as_it_was_written(log, tmp_path):
    bare = [line for line in lines_of(log) if b"checkpoint" not in line]
    folder = rewritten(log, tmp_path / "audit", rechained(bare, 0, lambda row: row), forged=True)
    found = check(log, folder)
    assert [problem.what for problem in found.problems] == ["no checkpoint signs rows 1 to 12"]


@pytest.mark.parametrize("k", range(1, LAST + 1))
def test_the_last_rows_cut_after_a_checkpoint_are_found(log, tmp_path, k):
    lines = lines_of(log)
    found = check(log, rewritten(log, tmp_path / "audit", lines[:-k]))
    assert not found.passed
    assert k == LAST or any("cut" in problem.what for problem in found.problems)


def test_a_cut_with_a_forged_end_is_found_by_a_checkpoint_that_was_kept_elsewhere(log, tmp_path):
    lines = lines_of(log)
    kept = tmp_path / "kept.jsonl"
    kept.write_bytes(lines[-1] + b"\n")
    shorter = made(tmp_path / "shorter", rows=5)
    (shorter / "public.pem").write_bytes(Signer.load(shorter / "keys").public_pem())
    assert check(shorter).passed
    found = check(shorter, anchors=[kept])
    assert not found.passed and "kept elsewhere" in found.problems[0].what


def test_two_forks_of_one_log_are_told_apart(log, tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    for fork, first in ((one, 12), (two, 40)):
        shutil.copytree(log, fork)
        made(fork, rows=first + 3, first=first)
        assert check(fork).passed
    kept = tmp_path / "kept.jsonl"
    kept.write_bytes(lines_of(one)[-1] + b"\n")
    assert check(one, anchors=[kept]).passed
    found = check(two, anchors=[kept])
    assert not found.passed and "fork" in found.problems[0].what
    mixed = rewritten(one, tmp_path / "audit", [*lines_of(one), *lines_of(two)[LAST:]])
    found = check(one, mixed)
    assert not found.passed and "fork" in found.problems[0].what


def test_another_key_does_not_sign_the_log(log, tmp_path):
    (tmp_path / "other.pem").write_bytes(Signer.load(tmp_path / "keys").public_pem())
    found = verify(log / "audit", [tmp_path / "other.pem"])
    assert not found.passed and "not by yours" in found.problems[0].what


def test_a_changed_key_is_verified_with_both(log, tmp_path):
    both = tmp_path / "both"
    shutil.copytree(log, both)
    (both / "keys" / "signing.pem").unlink()
    made(both, rows=14, first=12)
    (both / "second.pem").write_bytes(Signer.load(both / "keys").public_pem())
    keys = [both / "public.pem", both / "second.pem"]
    assert verify(both / "audit", keys).passed and not verify(both / "audit", keys[:1]).passed


def test_the_card_and_the_json_name_the_first_bad_row(log, tmp_path):
    lines = lines_of(log)
    found = check(log, rewritten(log, tmp_path / "audit", [*lines[:3], *lines[4:]]))
    assert "FAIL" in str(found) and "row 4 is missing" in str(found)
    told = found.to_json()
    assert not told["passed"] and told["problems"][0]["row"] == 4


def test_what_cannot_be_read_is_named(log, tmp_path):
    with pytest.raises(ConfigError, match="audit log"):
        check(log, tmp_path / "missing")
    with pytest.raises(NotFoundError, match=r"none\.pem"):
        verify(log / "audit", [tmp_path / "none.pem"])
    (tmp_path / "text.pem").write_text("no key")
    with pytest.raises(ConfigError, match="public key"):
        verify(log / "audit", [tmp_path / "text.pem"])
    with pytest.raises(ConfigError, match="row"):
        check(log, anchors=[tmp_path / "text.pem"])
    empty = tmp_path / "empty"
    empty.mkdir()
    assert not check(log, empty).passed


def test_a_digit_of_the_end_file_that_was_changed_is_found(log, tmp_path):
    folder = tmp_path / "audit"
    shutil.copytree(log / "audit", folder)
    data = (folder / HEAD).read_bytes()
    for at in (at for at, byte in enumerate(data) if chr(byte).isdigit()):
        changed = bytearray(data)
        changed[at] = ord("7" if data[at] != ord("7") else "8")
        (folder / HEAD).write_bytes(changed)
        assert not check(log, folder).passed, data[:at]


def test_a_purge_that_nobody_signed_does_not_excuse_missing_rows(log, tmp_path):
    folder = tmp_path / "audit"
    shutil.copytree(log / "audit", folder)
    first, second, *_ = segments_of(folder)
    first.unlink()
    begin = row_of(second.read_bytes().splitlines()[0])
    head = Head.parse((folder / HEAD).read_bytes())
    purge = {"activity": "purge", "facts": {"first": begin["seq"], "prev": begin["prev"]}}
    line, digest = line_of(purge, seq=head.seq + 1, prev=head.digest)
    with (folder / head.segment).open("ab") as file:
        file.write(line + b"\n")
    forged = Head(
        segment=head.segment, size=head.size + len(line) + 1, seq=head.seq + 1, digest=digest,
        signed=head.signed,
    )  # fmt: skip
    (folder / HEAD).write_bytes(forged.encoded())
    found = check(log, folder)
    assert not found.passed and "signed" in found.problems[0].what and found.problems[0].row == 1


def test_what_is_no_regular_file_is_a_problem_and_no_error(log, tmp_path):
    for make in (lambda path: path.mkdir(), os.mkfifo, lambda path: path.symlink_to(log)):
        folder = tmp_path / make.__name__ / str(id(make))
        shutil.copytree(log / "audit", folder)
        path = segments_of(folder)[1]
        path.unlink()
        make(path)
        assert any("regular file" in problem.what for problem in check(log, folder).problems)


def test_a_log_that_grows_while_it_is_read_passes(log, tmp_path, monkeypatch):
    copy = tmp_path / "copy"
    shutil.copytree(log, copy)
    before = (copy / "audit" / HEAD).read_bytes()
    made(copy, rows=15, first=12)
    after = (copy / "audit" / HEAD).read_bytes()
    read = verification.files.read_bytes
    heads = iter([before, after] * 2)
    monkeypatch.setattr(
        verification.files,
        "read_bytes",
        lambda path, *, limit: next(heads) if path.name == HEAD else read(path, limit=limit),
    )
    found = check(copy)
    assert found.passed and any("meanwhile" in note for note in found.notes)
    other = Head.parse(before)
    forged = Head(segment=other.segment, size=other.size, seq=other.seq, digest="1" * 64, signed=other.signed)
    heads = iter([forged.encoded(), after])
    assert not check(copy).passed
