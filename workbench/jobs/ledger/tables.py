"""The tables of the job ledger, in the dialects of SQLite and PostgreSQL.

Times are texts in ISO 8601 and UTC, which sort like the times.
"""

# ruff: noqa: S608 - only names of tables and columns are put in; values are bound
from __future__ import annotations

SCHEMA = 2
_TABLES = """
CREATE TABLE runs (
    number {number}, run {text} NOT NULL UNIQUE,
    job {text} NOT NULL, tenant {text} NOT NULL, at {text} NOT NULL,
    role {text} NOT NULL DEFAULT 'production',
    version {integer} NOT NULL, input_digest {text} NOT NULL,
    state {text} NOT NULL CHECK (state IN ('waiting', 'queued', 'running', 'finished', 'lost')),
    alive {boolean} NOT NULL GENERATED ALWAYS AS (state IN ('queued', 'running')) STORED,
    ended {boolean} NOT NULL GENERATED ALWAYS AS (state IN ('finished', 'lost')) STORED,
    outcome {text} NOT NULL DEFAULT '',
    queued_at {text} NOT NULL, started_at {text}, finished_at {text},
    host {text} NOT NULL DEFAULT '', pid {integer} NOT NULL DEFAULT 0, born {text} NOT NULL DEFAULT '',
    lease_until {text} NOT NULL,
    rows {integer} NOT NULL DEFAULT 0, quarantined {integer} NOT NULL DEFAULT 0, cost_usd {real},
    folder {text} NOT NULL DEFAULT '', detail {text} NOT NULL DEFAULT '',
    cause {text} NOT NULL DEFAULT 'manual', attempt {integer} NOT NULL DEFAULT 1,
    priority {integer} NOT NULL DEFAULT 0, not_before {text}, server {text} NOT NULL DEFAULT '',
    fingerprint {text} NOT NULL DEFAULT '', facts {text} NOT NULL DEFAULT '{{}}'
){strict};
CREATE UNIQUE INDEX runs_alive ON runs (job, tenant, at, role) WHERE alive;
CREATE INDEX runs_waiting ON runs (job, tenant, number) WHERE state = 'waiting';
CREATE INDEX runs_unfinished ON runs (number) WHERE NOT ended;
CREATE INDEX runs_of_job ON runs (job, number);
CREATE INDEX runs_of_slot ON runs (job, tenant, at, role, number);
CREATE TABLE fired (
    job {text} NOT NULL, tenant {text} NOT NULL, role {text} NOT NULL, at {text} NOT NULL,
    attempt {integer} NOT NULL, cause {text} NOT NULL, PRIMARY KEY (job, tenant, role, at, attempt)
){strict};
CREATE TABLE turns (name {text} PRIMARY KEY, turn {integer} NOT NULL){strict};
CREATE INDEX turns_order ON turns (turn);
CREATE TABLE effects (
    job {text} NOT NULL, tenant {text} NOT NULL, role {text} NOT NULL, at {text} NOT NULL,
    kind {text} NOT NULL, key {text} NOT NULL, PRIMARY KEY (job, tenant, role, at, kind, key)
){strict};
CREATE TABLE pauses (
    job {text} NOT NULL, tenant {text} NOT NULL, version {integer} NOT NULL,
    author {text} NOT NULL, reason {text} NOT NULL, at {text} NOT NULL, PRIMARY KEY (job, tenant, version)
){strict};
CREATE TABLE withdrawals (
    job {text} NOT NULL, version {integer} NOT NULL, author {text} NOT NULL, reason {text} NOT NULL,
    evidence {text} NOT NULL, at {text} NOT NULL, PRIMARY KEY (job, version)
){strict};
CREATE TABLE servers (
    id {text} PRIMARY KEY, host {text} NOT NULL, pid {integer} NOT NULL, born {text} NOT NULL,
    address {text} NOT NULL, started_at {text} NOT NULL, lease_until {text} NOT NULL
){strict};
CREATE TABLE notices (
    number {number}, key {text} NOT NULL UNIQUE, job {text} NOT NULL, event {text} NOT NULL,
    payload {text} NOT NULL, channels {text} NOT NULL, posted_at {text} NOT NULL
){strict};
CREATE TABLE deliveries (
    key {text} NOT NULL, channel {text} NOT NULL, state {text} NOT NULL, tries {integer} NOT NULL,
    not_before {text} NOT NULL, detail {text} NOT NULL, PRIMARY KEY (key, channel)
){strict};
CREATE INDEX deliveries_due ON deliveries (not_before) WHERE state = 'pending';
"""
SQLITE = _TABLES.format(
    number="INTEGER PRIMARY KEY", text="TEXT", integer="INTEGER", real="REAL", boolean="INTEGER",
    strict=" STRICT",
)  # fmt: skip
POSTGRES = _TABLES.format(
    number="bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY", text='text COLLATE "C"', integer="bigint",
    real="double precision", boolean="boolean", strict="",
)  # fmt: skip
_KEPT = (
    "number, run, job, tenant, at, version, input_digest, state, outcome, queued_at, started_at, finished_at,"
    " host, pid, born, lease_until, rows, quarantined, cost_usd, folder, detail"
)
#: The migration of a SQLite file of schema 1, whose only table held the runs.
FROM_SCHEMA_1 = (
    "DROP INDEX runs_alive; DROP INDEX runs_of_job; ALTER TABLE runs RENAME TO runs_of_schema_1;"
    f"{SQLITE} INSERT INTO runs ({_KEPT}) SELECT {_KEPT} FROM runs_of_schema_1;"
    "DROP TABLE runs_of_schema_1;"
)
