"""Promoted jobs: their versions, schedules, runs, the ledger of runs and what they publish."""
