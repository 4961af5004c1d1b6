"""Privacy: detectors of identifiers and secrets."""

from workbench.privacy.detection import PatternDetector

__all__ = ["PatternDetector"]
