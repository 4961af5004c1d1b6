"""Budgets: the accounts that params.yaml declares, and the ledger that they are kept in."""
