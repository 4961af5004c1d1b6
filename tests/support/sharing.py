"""How the tests are shared out among workers: which stay together, and which begin first."""

from __future__ import annotations

from pathlib import PurePosixPath

#: Files of long tests that share no more than a folder made once: each test may go to another worker.
APART = {
    "test_interrupted",
    "test_job_faults",
    "test_live",
    "test_local_model",
    "test_promotion",
    "test_promotion_killed",
    "test_promotion_refused",
    "test_reproduce",
    "test_second_use_case",
}


#: Clones that one worker makes while every other worker that asks for them waits.
SHARED = {"promoted", "reproduced", "shipped"}


def unit_of(nodeid: str) -> str:
    """The name of what stays together on one worker: a file, or one test."""
    path = nodeid.partition("::")[0]
    return nodeid if PurePosixPath(path).stem in APART else path


def first_the_long(items: list) -> None:
    """Put first what may take longest, so that no worker is left alone with it at the end.

    Of the long tests, the first that asks for a shared clone begins, then those that need none, then the
    others: no worker waits while the clone is made.
    """
    items.sort(key=lambda item: (*_rank(item), _seconds(item), -len(SHARED.intersection(item.fixturenames))))
    made: set[str] = set()
    turns = {}
    for item in items:
        asked = SHARED.intersection(item.fixturenames)
        turns[id(item)] = 1 if not asked else 2 if asked <= made else 0
        made |= asked
    items.sort(key=lambda item: (*_rank(item), turns[id(item)]))


def _rank(item) -> tuple[bool, bool]:
    return "unit" in item.path.parts, "slow" not in item.keywords


def _seconds(item) -> float:
    limit = item.get_closest_marker("timeout")
    return -limit.args[0] if limit else 0.0


def scheduler(config, log):
    """What xdist asks where the next tests come from; None leaves it to xdist."""
    from xdist.scheduler import LoadScopeScheduling

    if config.getoption("dist") != "loadfile":
        return None

    class ByUnit(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return unit_of(nodeid)

    config.option.loadscopereorder = False  # by their number of tests, the longest would come last
    return ByUnit(config, log)
