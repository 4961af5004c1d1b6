"""The file of a review's labels: appended under a lock, on the disk at once, one line a decision."""

from __future__ import annotations

import os
import re
from dataclasses import asdict
from pathlib import Path
from typing import Final

from workbench import files
from workbench.errors import ConfigError, CorruptError, NotFoundError
from workbench.experiments.labels import MOST_LINE, HumanLabel, labels_of, read_labels
from workbench.experiments.stated_path import inside
from workbench.layout import REVIEWS
from workbench.records.log import Lines

#: How the line of each label begins: its keys are sorted.
_BEGIN: Final = b'{"at":'
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,99}")


class LabelFile:
    """The labels of one review of a use case, `pipelines/reviews/USE_CASE/NAME.jsonl`; any number may write.

    Raise ConfigError for a name that is none of a file, and for a path that leads out of the folder.
    """

    def __init__(self, root: Path, use_case: str, name: str) -> None:
        if not _NAME.fullmatch(name):
            raise ConfigError(
                f"name={files.shortened(name)!r} cannot name the file of a review",
                hint='name="first-round": up to 100 letters, digits and . _ + -',
            )
        self._root, self._stated = root, f"{REVIEWS}/{use_case}/{name}.jsonl"
        #: The path relative to the repository, as params.yaml names it.
        self.relative = self._checked()
        self.path = root / self.relative
        self._lines = Lines(self.path, durable=True)

    def read(self) -> tuple[HumanLabel, ...]:
        """Return the labels, oldest first; none before the first decision. Raises as `read_labels` does."""
        try:
            return read_labels(self.path)
        except NotFoundError:
            return ()

    def append(self, label: HumanLabel) -> None:
        """Add a label; it is on the disk when this returns.

        A last line that a killed process left incomplete is removed. A complete one without its end, as some
        editors leave it, is kept.
        """
        self._checked()  # somebody may have put a link there since
        line = files.canonical(asdict(label))
        with self._lines.writing() as append:
            _end_last_line(self.path)
            append(line)

    def _checked(self) -> Path:
        return inside(self._root, self._stated, folder=REVIEWS, where="the review", example=self._stated)


def _end_last_line(path: Path) -> None:
    """End the last line of a file if it is a complete label; `Lines` removes an incomplete one.

    Raise CorruptError, and change nothing, where the last line is no beginning of a label.
    """
    descriptor = files.open_regular(path, os.O_RDWR | os.O_APPEND)
    try:
        start = max(0, os.fstat(descriptor).st_size - MOST_LINE - 1)
        last = os.pread(descriptor, MOST_LINE + 1, start).rpartition(b"\n")[2]
        if len(last) > MOST_LINE or last[: len(_BEGIN)] != _BEGIN[: len(last)]:
            raise CorruptError(
                f"{path}: its last line is no label, and was not written by a review",
                hint=f"git log -p -- {path}   # find the change of the labels; no decision was written",
            )
        if last and labels_of(last, where=str(path)):
            os.write(descriptor, b"\n")
    finally:
        os.close(descriptor)
