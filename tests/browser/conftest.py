"""For the tests in a browser: the browser that those of a file share, and the repository that ships."""

from __future__ import annotations

from shipped_clones import head, shipped, shipped_clone  # noqa: F401 - fixtures of this folder
from shown_pages import one_browser  # noqa: F401 - a fixture of this folder
