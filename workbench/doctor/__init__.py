"""`workbench doctor`: what is installed, what runs, what is missing. Starts nothing, shows no secret."""

from workbench.doctor.examination import examine
from workbench.doctor.findings import Diagnosis, Finding

__all__ = ["Diagnosis", "Finding", "examine"]
