"""Locks between processes: a lock ends with its block, whatever was forked meanwhile."""

import os
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
