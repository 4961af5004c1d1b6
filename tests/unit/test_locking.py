"""Locks between processes: a lock ends with its block, whatever was forked meanwhile."""

import os
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from workbench import locking
from workbench.records.segments import CallLog, folder_of


@contextmanager
def forked() -> Iterator[None]:
    """Fork a process that holds copies of this process's descriptors, and end it after the block."""
    end, hold = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of a fork beside threads
        child = os.fork()
    if not child:
        os.close(hold)
        os.read(end, 1)
        os._exit(0)
    try:
        yield
    finally:
        os.close(hold)
        os.waitpid(child, 0)
        os.close(end)


def free(path) -> bool:
    descriptor = os.open(path, os.O_RDWR)
    try:
        return locking.acquire(descriptor, wait=False)
    finally:
        os.close(descriptor)


def test_a_forked_process_does_not_keep_the_lock_of_a_block(tmp_path):
    path = tmp_path / "lock"
    with locking.locked(path):
        fork = forked()
        fork.__enter__()
        assert not free(path)
    try:
        assert free(path)
    finally:
        fork.__exit__(None, None, None)


def test_a_child_that_was_given_the_descriptor_keeps_an_inherited_lock(tmp_path):
    path = tmp_path / "lock"
    with locking.locked(path, inherited=True):
        fork = forked()
        fork.__enter__()
    try:
        assert not free(path)
    finally:
        fork.__exit__(None, None, None)
    assert free(path)


def test_a_process_forked_while_a_segment_is_closed_does_not_stop_readers(tmp_path, monkeypatch):
    log, forks = CallLog(tmp_path / "calls.jsonl"), []
    log.append(b'{"at":"2026-11-24T00:00:00+00:00"}')
    size = log._lines.size

    def fork_and_size() -> int:
        forks.append(forked())
        forks[0].__enter__()
        return size()

    monkeypatch.setattr(log._lines, "size", fork_and_size)
    assert log.close(now=True)
    try:
        assert free(folder_of(log.path) / ".listing")
    finally:
        forks[0].__exit__(None, None, None)


@pytest.mark.parametrize("shared", [True, False])
def test_a_lock_ends_when_its_block_fails(tmp_path, shared):
    with pytest.raises(ZeroDivisionError), locking.locked(tmp_path / "lock", shared=shared):
        raise ZeroDivisionError
    assert free(tmp_path / "lock")


def test_a_holder_that_wants_the_lock_again_at_once_lets_those_who_wait_go_first(tmp_path):
    """Counted in turns, not in time: while one waits, the greedy one gets few turns."""
    path, waiting, done = tmp_path / "file", threading.Event(), threading.Event()
    turns = 0

    def greedy():
        nonlocal turns
        while not done.is_set():
            with locking.in_turn(path, wait_s=30) as granted:
                assert granted
                time.sleep(0.01)
            turns += waiting.is_set()

    thread = threading.Thread(target=greedy)
    thread.start()
    try:
        for _ in range(20):
            waiting.set()
            with locking.in_turn(path, wait_s=30) as granted:
                assert granted
            waiting.clear()
            time.sleep(0.005)
    finally:
        done.set()
        thread.join()
    assert turns <= 20 * 10


def test_a_turn_that_does_not_come_in_time_is_told(tmp_path):
    path = tmp_path / "file"
    with locking.in_turn(path, wait_s=1) as first, locking.in_turn(path, wait_s=0.05) as second:
        assert (first, second) == (True, False)
    with locking.in_turn(path, wait_s=1) as free:
        assert free
