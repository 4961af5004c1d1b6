"""The contract of the stores of API keys, on SQLite and on a real PostgreSQL server."""

from __future__ import annotations

import dataclasses
import threading

import psycopg
import pytest
from postgres_server import PASSWORD, postgres  # noqa: F401 - a fixture

from workbench.errors import ConfigError, CorruptError, NotFoundError, UnavailableError
from workbench.identities.api_keys import ApiKey, KeyRights, digest_of, new_secret
from workbench.identities.key_postgres import PostgresKeys
from workbench.identities.key_store import SqliteKeys
from workbench.identities.known_keys import KnownKeys
from workbench.identity import KeyBudget
from workbench.testing.fakes import FakeClock

AT, LATER, END = "2026-11-30T09:00:00Z", "2026-11-30T10:00:00Z", "2026-12-30T09:00:00Z"
RIGHTS = KeyRights(
    principal="job:answers", kind="job", tenant="acme", use_cases=("answers",), groups=("people",),
    clearance=2, purposes=("support",), models=("gpt",), memories=("handbook",), admin=True,
    budget=KeyBudget(usd=1.5, calls=7, per="month"),
)  # fmt: skip


def made(**changes) -> tuple[ApiKey, str]:
    name, secret = new_secret()
    key = ApiKey(id=name, digest=digest_of(secret), rights=RIGHTS, issued=AT, issued_by="ann", expires=END)
    return dataclasses.replace(key, **changes), secret


class KeyStoreContract:
    """The promises of a store. Each store that `open` returns stands for a process."""

    @pytest.fixture
    def open(self, request):
        raise NotImplementedError

    def test_a_key_is_kept_as_it_was_added(self, open):  # noqa: A002
        store, (key, _) = open(), made()
        store.add(key)
        bare, _ = made(rights=KeyRights(principal="ann"), expires="", issued=LATER)
        store.add(bare)
        assert {k.id: k for k in open().listed()} == {key.id: key, bare.id: bare}

    def test_each_change_is_seen_by_the_next_request_of_another_process(self, open):  # noqa: A002
        ours, theirs = open(), open()
        (key, _), (other, _) = made(), made()
        seen = [theirs.changes()]
        for change in (
            lambda: ours.add(key),
            lambda: ours.add(other, replacing=key.id, ends=LATER),
            lambda: ours.revoke(other.id, at=LATER),
        ):
            change()
            seen.append(theirs.changes())
        assert len(set(seen)) == 4 and theirs.changes() == seen[-1]
        mine = ours.changes()
        theirs.note_use(key.id, at=LATER)
        assert (ours.changes(), theirs.changes()) == (mine, seen[-1]), "a use is no change"
        assert {k.used for k in ours.listed() if k.id == key.id} == {LATER}

    def test_a_process_sees_its_own_changes(self, open):  # noqa: A002
        store, (key, _) = open(), made()
        before = store.changes()
        store.add(key)
        between = store.changes()
        store.revoke(key.id, at=LATER)
        assert len({before, between, store.changes()}) == 3

    def test_a_key_is_revoked_once(self, open):  # noqa: A002
        store, (key, _) = open(), made()
        store.add(key)
        assert store.revoke(key.id, at=LATER) and not store.revoke(key.id, at=END)
        assert {k.revoked for k in store.listed() if k.id == key.id} == {LATER}
        with pytest.raises(NotFoundError, match="no key"):
            store.revoke("0" * 12, at=LATER)

    def test_a_rotation_adds_the_new_key_and_ends_the_old_one(self, open):  # noqa: A002
        store, (old, _), (new, _) = open(), made(), made()
        store.add(old)
        store.add(new, replacing=old.id, ends=LATER)
        kept = {k.id: k for k in store.listed()}
        assert (kept[old.id].expires, kept[old.id].replaced_by) == (LATER, new.id)
        assert kept[new.id] == new
        soon, (last, _) = made(expires=LATER)[0], made()
        store.add(soon)
        store.add(last, replacing=soon.id, ends=END)
        assert {k.expires for k in store.listed() if k.id == soon.id} == {LATER}, "it never lives longer"

    def test_a_rotation_of_a_key_that_ended_adds_nothing(self, open):  # noqa: A002
        store = open()
        revoked, expired, replaced = made()[0], made(expires="2026-11-30T08:00:00Z")[0], made()[0]
        for key in (revoked, expired, replaced):
            store.add(key)
        store.revoke(revoked.id, at=AT)
        store.add(made()[0], replacing=replaced.id, ends=LATER)
        count = len(store.listed())
        for name in (revoked.id, expired.id, replaced.id, "0" * 12):
            with pytest.raises(NotFoundError, match="no active key"):
                store.add(made()[0], replacing=name, ends=LATER)
        assert len(store.listed()) == count

    def test_of_several_rotations_at_once_one_succeeds(self, open):  # noqa: A002
        store, (key, _), done = open(), made(), []
        store.add(key)

        def rotate(own):
            try:
                own.add(made()[0], replacing=key.id, ends=LATER)
                done.append(True)
            except NotFoundError:
                done.append(False)

        threads = [threading.Thread(target=rotate, args=(open(),)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert sorted(done) == [False, False, False, True]

    def test_a_known_key_is_refused_from_the_moment_that_another_process_revokes_it(self, open):  # noqa: A002
        (key, secret), clock = made(), FakeClock("2026-11-30T09:30:00+00:00")
        store, known = open(), KnownKeys(open(), clock)
        assert known.find(secret) is None
        store.add(key)
        assert known.find(secret) == key
        store.revoke(key.id, at=LATER)
        assert known.find(secret) is None


class TestSqlite(KeyStoreContract):
    @pytest.fixture
    def open(self, tmp_path):
        made = []

        def opened():
            made.append(SqliteKeys(tmp_path / "state" / "keys.sqlite"))
            return made[-1]

        yield opened
        for store in made:
            store.close()

    def test_without_a_file_there_is_no_key_and_none_is_made(self, open, tmp_path):  # noqa: A002
        assert open().changes() is None and open().listed() == []
        assert not (tmp_path / "state").exists()

    def test_the_file_is_the_user_s_alone(self, open, tmp_path):  # noqa: A002
        open().add(made()[0])
        assert (tmp_path / "state" / "keys.sqlite").stat().st_mode & 0o777 == 0o600

    def test_a_backup_in_its_place_is_read(self, open, tmp_path):  # noqa: A002
        store, path = open(), tmp_path / "state" / "keys.sqlite"
        store.add(made()[0])
        store.close()
        kept = path.read_bytes()
        store.add(made()[0])
        before = store.changes()
        store.close()
        (tmp_path / "copy").write_bytes(kept)
        reader = open()
        assert len(reader.listed()) == 2
        (tmp_path / "copy").replace(path)
        for name in ("keys.sqlite-wal", "keys.sqlite-shm"):
            (tmp_path / "state" / name).unlink(missing_ok=True)
        assert reader.changes() != before and len(reader.listed()) == 1
        path.unlink()
        assert reader.changes() is None and reader.listed() == []

    def test_a_damaged_file_lets_nobody_in(self, open, tmp_path):  # noqa: A002
        store, path = open(), tmp_path / "state" / "keys.sqlite"
        store.add(made()[0])
        store.close()
        path.write_bytes(b"no database" * 1000)
        for ask in (store.changes, store.listed):
            with pytest.raises(CorruptError, match="damaged"):
                ask()

    def test_a_row_that_no_workbench_wrote_is_an_error_that_names_the_key(self, open):  # noqa: A002
        store, (key, _) = open(), made()
        store.add(key)
        store._db.execute("UPDATE keys SET rights = '{\"principal\": 7}'")
        with pytest.raises(ConfigError, match=key.id):
            store.listed()
        store._db.execute("UPDATE keys SET digest = 'x'")
        with pytest.raises(ConfigError, match="damaged"):
            store.listed()


class TestPostgres(KeyStoreContract):
    @pytest.fixture
    def open(self, postgres):  # noqa: F811
        with psycopg.connect(postgres.url, password=PASSWORD, autocommit=True) as db:
            db.execute("DROP TABLE IF EXISTS workbench_api_keys, workbench_api_key_changes")
        made = []

        def opened():
            made.append(PostgresKeys(postgres.url, password=PASSWORD))
            return made[-1]

        yield opened
        for store in made:
            store.close()

    def test_a_database_that_is_gone_lets_nobody_in_and_is_asked_again(self, open, postgres):  # noqa: A002, F811
        store, (key, secret) = open(), made()
        store.add(key)
        known = KnownKeys(store, FakeClock("2026-11-30T09:30:00+00:00"))
        assert known.find(secret) == key
        with psycopg.connect(postgres.url, password=PASSWORD, autocommit=True) as db:
            db.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE application_name = 'workbench-keys'"
            )
        with pytest.raises(UnavailableError, match="API key"):
            known.find(secret)
        assert known.find(secret) == key

    def test_an_address_without_a_database_is_unavailable(self):
        store = PostgresKeys("postgresql://tests@127.0.0.1:9/none", password="x")
        with pytest.raises(UnavailableError, match="budget_url"):
            store.changes()
        store.note_use("0" * 12, at=AT)
