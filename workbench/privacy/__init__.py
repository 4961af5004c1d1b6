"""Privacy: detectors of identifiers and secrets."""

from workbench.privacy.detection import CombinedDetector, PatternDetector

__all__ = ["CombinedDetector", "PatternDetector"]
