"""The repository: git, DVC, and the environments of old commits."""
