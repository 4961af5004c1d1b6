"""The writer of the audit log: one chain over threads, processes, kills, damage and full disks."""

import errno
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import orjson
import pytest

from workbench.audit import Chain, ChainOptions, Filter, rows_of, verify
from workbench.audit.lines import HEAD, Head, segments_of
from workbench.audit.signing import KEY_VARIABLE, Signer
from workbench.errors import ConfigError, UnavailableError

DAY = "2099-11-30"  # after today, so that checkpoints, which have the real time, begin no day of their own


def row(n: int, day: str = DAY, **more) -> dict:
    return {"activity": "call", "time_dt": f"{day}T09:00:00.{n:06}+00:00", "n": n, **more}


@pytest.fixture
def home(tmp_path):
    return tmp_path


@pytest.fixture
def chain(home):
    made = Chain(home / "audit", home / "keys", ChainOptions(batch_s=0.01, seconds=0.02))
    yield made
    made.close()


def verified(home, **how):
    key = home / "public.pem"
    key.write_bytes(Signer.load(home / "keys").public_pem())
    return verify(home / "audit", [key], **how)


def numbers(home) -> list[int]:
    rows = rows_of(home / "audit", Filter(action="call"), home / "keys")
    return [found["n"] for found in rows]


def test_rows_are_numbered_chained_and_signed_when_the_log_is_closed(chain, home):
    assert [chain.append(row(n)) for n in range(3)] == [1, 2, 3]
    chain.close()
    found = verified(home)
    assert found.passed and (found.rows, found.signed, found.last) == (4, 4, 4)
    last = rows_of(home / "audit", Filter(), home / "keys")[-1]
    assert (last["activity"], last["size"]) == ("checkpoint", 3)
    assert numbers(home) == [0, 1, 2]


def test_a_closed_log_goes_on_with_the_next_row(chain, home):
    chain.append(row(0))
    chain.close()
    chain.append(row(1))
    chain.close()
    found = verified(home)
    assert found.passed and found.last == 4 and numbers(home) == [0, 1]


def test_a_thread_signs_when_it_is_time_and_then_ends(chain, home):
    chain.append(row(0))
    until = time.monotonic() + 20
    while chain._flusher is not None:
        assert time.monotonic() < until
        time.sleep(0.01)
    assert verified(home).signed == 2


def test_a_row_after_closing_is_signed_by_another_thread(chain, home):
    for n in range(20):
        chain.append(row(n))
        chain.close()
    chain.append(row(20))
    until = time.monotonic() + 20
    while chain._flusher is not None:
        assert time.monotonic() < until
        time.sleep(0.01)
    assert (verified(home).signed, verified(home).last) == (42, 42)


def test_a_key_that_cannot_sign_is_logged_and_no_row_is_lost(home, caplog):
    (home / "keys").mkdir()
    (home / "keys" / "signing.pem").write_text("damaged")
    chain = Chain(home / "audit", home / "keys", ChainOptions(batch_s=0.01, seconds=0.01))
    chain.append(row(0))
    until = time.monotonic() + 20
    while "no checkpoint signs" not in caplog.text:
        assert time.monotonic() < until
        time.sleep(0.01)
    chain.append(row(1))
    chain.close()
    assert numbers(home) == [0, 1]


def test_a_checkpoint_comes_after_so_many_rows(home):
    chain = Chain(home / "audit", home / "keys", ChainOptions(rows=5, seconds=60, batch_s=0.005))
    for n in range(5):
        chain.append(row(n))
    until = time.monotonic() + 20
    while verified(home).signed != 6:
        assert time.monotonic() < until
        time.sleep(0.01)
    chain.close()


def test_a_segment_ends_at_its_size_and_with_its_day(home):
    chain = Chain(home / "audit", home / "keys", ChainOptions(segment_bytes=700))
    for n in range(6):
        chain.append(row(n))
    chain.append(row(6, day="2099-12-01"))
    chain.close()
    names = [path.name for path in segments_of(home / "audit")]
    assert names[0] == f"{DAY}.000000000001.jsonl" and names[-1] == "2099-12-01.000000000007.jsonl"
    assert len(names) == 3 and verified(home).passed and numbers(home) == list(range(7))


def test_folders_and_keys_are_private(chain, home):
    chain.append(row(0))
    chain.close()
    files = [*(home / "audit").iterdir(), *(home / "keys").iterdir()]
    assert {path.stat().st_mode & 0o077 for path in files} == {0}


WRITER = """
import sys; sys.path.insert(0, {root!r})
from pathlib import Path
from workbench.audit import Chain, ChainOptions
chain = Chain(Path({home!r}) / "audit", Path({home!r}) / "keys", ChainOptions(segment_bytes=20_000))
for n in range({first}, {first} + {count}):
    chain.append({{"activity": "call", "time_dt": "2099-11-30T09:00:00+00:00", "n": n}})
    print(n, flush=True)
    {then}
"""


def writer(home: Path, first: int, count: int, then: str = "") -> subprocess.Popen:
    root = str(Path(__file__).parents[2])
    script = WRITER.format(root=root, home=str(home), first=first, count=count, then=then)
    return subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)


def test_processes_and_threads_write_one_chain(home):
    writers = [writer(home, 1_000 * p, 100) for p in (1, 2)]
    chain = Chain(home / "audit", home / "keys")
    threads = [
        threading.Thread(target=lambda t=t: [chain.append(row(10_000 * t + n)) for n in range(50)])
        for t in (1, 2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for process in writers:
        process.communicate()
        assert process.returncode == 0
    chain.close()
    found = verified(home)
    assert found.passed and not found.notes
    expected = {*range(1_000, 1_100), *range(2_000, 2_100), *range(10_000, 10_050), *range(20_000, 20_050)}
    assert sorted(numbers(home)) == sorted(expected)


def test_an_acknowledged_row_survives_the_kill_of_its_process(home):
    process = writer(home, 0, 100_000)
    acknowledged = [int(process.stdout.readline()) for _ in range(50)]
    process.send_signal(signal.SIGKILL)
    acknowledged += map(int, process.communicate()[0].split())
    assert process.returncode == -signal.SIGKILL
    written = numbers(home)
    assert set(acknowledged) <= set(written) and written == sorted(written)
    chain = Chain(home / "audit", home / "keys")
    chain.append(row(999_999))
    chain.close()
    assert verified(home).passed


def test_a_forked_child_writes_its_own_rows(home):
    chain = Chain(home / "audit", home / "keys")
    chain.append(row(0))
    pid = os.fork()
    if not pid:
        chain.append(row(1))
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
    chain.append(row(2))
    chain.close()
    assert numbers(home) == [0, 1, 2] and verified(home).passed


def test_a_torn_row_of_a_kill_is_removed_and_said(chain, home):
    chain.append(row(0))
    chain.close()
    (segment,) = segments_of(home / "audit")
    whole = segment.read_bytes()
    segment.write_bytes(whole + whole[:40])
    before = verified(home)
    assert before.passed and any("torn" in note for note in before.notes)
    chain.append(row(1))
    chain.close()
    found = verified(home)
    assert found.passed and numbers(home) == [0, 1]
    assert any("torn row of 40 bytes" in note for note in found.notes)


def test_a_row_without_its_head_is_kept(chain, home):
    chain.append(row(0))
    chain.close()
    head = (home / "audit" / HEAD).read_bytes()
    chain.append(row(1))
    chain.close()
    (home / "audit" / HEAD).write_bytes(head)  # as of a writer that was killed before it wrote it
    chain.append(row(2))
    chain.close()
    found = verified(home)
    assert found.passed and not found.notes and numbers(home) == [0, 1, 2]


@pytest.mark.parametrize("kept", [0, 1, 300])
def test_rows_that_were_cut_stay_missing_and_the_log_says_so(chain, home, kept):
    for n in range(3):
        chain.append(row(n))
    chain.close()
    (segment,) = segments_of(home / "audit")
    os.truncate(segment, kept)
    assert not verified(home).passed
    chain.append(row(3))
    chain.close()
    found = verified(home)
    assert not found.passed and found.problems[0].row <= 3
    assert any("lost" in problem.what for problem in found.problems) and numbers(home)[-1] == 3


@pytest.mark.parametrize("damage", [lambda head: head.unlink(), lambda head: head.write_bytes(b"{}")])
def test_a_log_whose_end_file_is_gone_or_damaged_goes_on_and_says_so(chain, home, damage):
    chain.append(row(0))
    chain.close()
    damage(home / "audit" / HEAD)
    assert not verified(home).passed
    chain.append(row(1))
    chain.close()
    found = verified(home)
    assert [problem.row for problem in found.problems] == [3] and "log's end" in found.problems[0].what
    assert numbers(home) == [0, 1]


def test_a_log_that_was_deleted_begins_again(chain, home):
    import shutil

    chain.append(row(0))
    shutil.rmtree(home / "audit")
    chain.append(row(1))
    chain.close()
    assert numbers(home) == [1] and verified(home).passed


def test_a_segment_that_was_deleted_is_told(chain, home):
    chain.append(row(0))
    chain.append(row(1))
    (segment,) = segments_of(home / "audit")
    segment.unlink()
    chain.append(row(2))
    chain.close()
    found = verified(home)
    assert not found.passed and numbers(home) == [2] and found.problems[0].row == 1


def test_a_full_disk_leaves_the_log_as_it_was(chain, home, monkeypatch):
    chain.append(row(0))
    real, calls = os.write, []

    def full(fd, data):
        if not calls:
            calls.append(fd)
            return real(fd, bytes(data)[:20])
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("workbench.audit.chain.os.write", full)
        with pytest.raises(UnavailableError, match="space"):
            chain.append(row(1))
    chain.append(row(2))
    chain.close()
    found = verified(home)
    assert found.passed and not found.notes and numbers(home) == [0, 2]


@pytest.mark.parametrize(("fsync", "synced"), [("each", 3), ("batch", 0), ("off", 0)])
def test_each_row_is_on_the_disk_before_it_is_acknowledged_if_asked(home, monkeypatch, fsync, synced):
    chain = Chain(home / "audit", home / "keys", ChainOptions(fsync=fsync, batch_s=60))
    chain.append(row(0))
    calls, real = [], os.fsync
    monkeypatch.setattr("workbench.audit.chain.os.fsync", lambda fd: calls.append(fd) or real(fd))
    for n in range(3):
        chain.append(row(n))
    assert len(calls) == synced
    chain.close()


def test_the_key_may_come_from_the_environment(home, monkeypatch):
    other = Signer.load(home / "other")
    for value in (str(home / "other" / "signing.pem"), (home / "other" / "signing.pem").read_text()):
        monkeypatch.setenv(KEY_VARIABLE, value)
        assert Signer.load(home / "keys").key_id == other.key_id
    assert not (home / "keys").exists()


@pytest.mark.parametrize(
    "text", ["", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "x" * 70_000]
)
def test_a_wrong_key_is_refused_and_the_rows_stay(chain, home, text):
    (home / "keys").mkdir()
    (home / "keys" / "signing.pem").write_text(text or "none")
    chain.append(row(0))
    with pytest.raises(ConfigError, match=r"signing\.pem"):
        chain.checkpoint()
    assert numbers(home) == [0]


def test_a_row_that_no_reader_would_take_is_refused_and_the_log_goes_on(chain, home):
    with pytest.raises(ConfigError, match="bytes"):
        chain.append(row(0, text="x" * (1 << 20)))
    chain.append(row(1, text="x" * ((1 << 20) - 1_000)))
    chain.append(row(2))
    chain.close()
    assert verified(home).passed and numbers(home) == [1, 2]


def test_a_head_is_read_only_as_it_was_written():
    head = Head(segment=f"{DAY}.000000000001.jsonl", size=10, seq=1, digest="ab" * 32, signed=0)
    data = head.encoded()
    assert Head.parse(data) == head
    wrong = [data[:-1], data + b" ", b"[]", b"{", orjson.dumps({"seq": 1})]
    assert [Head.parse(other) for other in wrong] == [None] * 5


@pytest.mark.parametrize("writes", [1, 2])
def test_a_kill_at_the_beginning_of_a_segment_leaves_one_chain(home, writes):
    """Kill the writer before the `writes`-th write of the head after a new day began."""
    pid = os.fork()
    if not pid:
        chain = Chain(home / "audit", home / "keys", ChainOptions(seconds=60))
        chain.append(row(0))
        keep, left = chain._keep, [writes]

        def kept(*args):
            left[0] -= 1
            if not left[0]:
                os._exit(0)
            keep(*args)

        chain._keep = kept
        chain.append(row(1, "2099-12-01"))
        os._exit(1)
    assert os.waitpid(pid, 0)[1] == 0
    chain = Chain(home / "audit", home / "keys")
    chain.append(row(2, "2099-12-02"))
    chain.close()
    found = verified(home)
    assert found.passed and numbers(home) == ([0, 2] if writes == 1 else [0, 1, 2]), found.problems


def test_an_end_file_older_than_its_segments_is_moved_on(home):
    """After the loss of power the disk may have the head of before."""
    chain = Chain(home / "audit", home / "keys")
    chain.append(row(0))
    chain.close()
    head = (home / "audit" / HEAD).read_bytes()
    for n, day in enumerate(("2099-12-01", "2099-12-02"), start=1):
        chain.append(row(n, day))
    chain.close()
    (home / "audit" / HEAD).write_bytes(head)
    chain.append(row(3, "2099-12-03"))
    chain.close()
    found = verified(home)
    assert found.passed and numbers(home) == [0, 1, 2, 3], found.problems


def test_a_forked_child_does_not_keep_the_lock_of_its_parent(home):
    chain = Chain(home / "audit", home / "keys")
    chain.append(row(0))
    inherited = chain._files.head
    pid = os.fork()
    if not pid:
        try:
            os.fstat(inherited)
        except OSError:
            os._exit(0)
        os._exit(1)
    assert os.waitpid(pid, 0)[1] == 0
    chain.append(row(1))
    chain.close()
    assert numbers(home) == [0, 1]
