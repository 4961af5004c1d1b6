"""For the tests of whole repositories: clones of what is committed, as a newcomer gets it."""

from __future__ import annotations

from shipped_clones import fresh_clone, head, shipped, shipped_clone  # noqa: F401 - fixtures of this folder
