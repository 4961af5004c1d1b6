"""The pipeline of dvc.yaml: its stages, `make repro`, and the readiness page."""
