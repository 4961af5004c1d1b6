"""Connect to a Weaviate server on first use, and check it after each failure."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from workbench.config import secret
from workbench.errors import ConfigError, UnavailableError
from workbench.memory.weaviate import errors

if TYPE_CHECKING:
    from weaviate import WeaviateAsyncClient

T = TypeVar("T")
#: After this long without an answer HTTP tells whether the server runs: the client tries a closed gRPC port
#: for a minute.
_SUSPECT_S = 1.0
_PAUSE_S = 0.1
#: Pauses before a request to a tenant that is being deactivated is repeated: the server waits two seconds for
#: earlier requests, twice, and refuses new ones meanwhile.
_INACTIVE_S = (0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 1.6, 1.6)
#: No server restarts in less time; after a longer silence it may have restarted.
_SILENCE_S = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """The address of a server. `grpc_host` and `grpc_port` default to the URL's host and 50051.

    `api_key_env` names the environment variable that holds the key.
    """

    url: str
    grpc_host: str | None = None
    grpc_port: int = 50051
    api_key_env: str | None = None

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme not in {"http", "https"} or not parts.hostname or parts.username or parts.password:
            raise ConfigError(
                "the address of the Weaviate server is not an http URL without credentials",
                hint="for example url: http://127.0.0.1:8080",
            )
        if (self.grpc_host or self.host, self.grpc_port) == (self.host, self.port):
            raise ConfigError(
                f"HTTP and gRPC cannot both be at {self.where}",
                hint="name the port at which gRPC answers: 50051",
            )

    @property
    def where(self) -> str:
        """Return host and port, for messages."""
        return f"{self.host}:{self.port}"

    @property
    def host(self) -> str:
        """Return the URL's host."""
        return urlsplit(self.url).hostname or ""

    @property
    def port(self) -> int:
        """Return the URL's port, or its scheme's."""
        return urlsplit(self.url).port or (443 if self.secure else 80)

    @property
    def secure(self) -> bool:
        """Return whether HTTP and gRPC are encrypted."""
        return urlsplit(self.url).scheme == "https"


class Connection:
    """A client of one server. `deadline_s` limits one request, `start_s` the start of a server.

    `key` is presented in place of the one that the address names.
    """

    def __init__(
        self, address: Address, *, deadline_s: float = 60.0, start_s: float = 15.0, key: str | None = None
    ) -> None:
        self.address = address
        self._key = key
        self.deadline_s = deadline_s
        self.start_s = start_s
        self.version = ""
        #: Grows with every start of the server; 0 where the key may not read it.
        self.term = 0
        self._doubted = False
        self._heard = 0.0
        self._client: WeaviateAsyncClient | None = None
        self._connecting = asyncio.Lock()
        #: The client's handle of a tenant in a collection, cached because its construction slows a search.
        self.part = functools.lru_cache(maxsize=1_000)(_part)

    async def client(self) -> WeaviateAsyncClient:
        """Return the client, connected to a server that has answered a real read since its start."""
        if self._client is None or self._is_doubtful():
            async with self._connecting:
                if self._client is None:
                    self._client = await self._connect()
                    self._doubted, self._heard = False, time.monotonic()
                elif self._doubted:
                    await self._look_again(self._client)
        return self._client

    async def ask(
        self, request: Callable[[WeaviateAsyncClient], Awaitable[T]], *, deadline_s: float | None = None
    ) -> T:
        """Return the server's answer to `request`, or raise one of the workbench's errors.

        The request is repeated while another process deactivates its tenant.
        """
        for pause in _INACTIVE_S:
            try:
                return await self._asked(request, deadline_s or self.deadline_s)
            except errors.InactiveError:
                await asyncio.sleep(pause)
        return await self._asked(request, deadline_s or self.deadline_s)

    async def _asked(self, request: Callable[[WeaviateAsyncClient], Awaitable[T]], limit: float) -> T:
        client = await self.client()
        try:
            answer = await self._watched(client, request(client), limit)
        except Exception as error:  # noqa: BLE001 - the client passes on errors of httpx and grpc
            ours = errors.translated(error, self.address.where)
            inactive = isinstance(ours, errors.InactiveError)
            self._doubted = self._doubted or (isinstance(ours, UnavailableError) and not inactive)
            raise ours from None
        self._heard = time.monotonic()
        return answer

    async def check_ready(self) -> None:
        """UnavailableError unless the server has read its schema: until then it denies collections."""
        looked = self._client is None or self._is_doubtful()
        client = await self.client()  # which looks whether a doubtful server is ready
        if not looked and not await self._is_ready(client):
            raise errors.named("starting", self.address.where)

    async def aclose(self) -> None:
        """Close the connection; closing twice is fine."""
        client, self._client = self._client, None
        self.part.cache_clear()
        if client is not None:
            await client.close()

    def _is_doubtful(self) -> bool:
        """Return whether the next request first looks at the server."""
        self._doubted = self._doubted or time.monotonic() - self._heard > _SILENCE_S
        return self._doubted

    async def _watched(self, client: WeaviateAsyncClient, answer: Awaitable[T], limit: float) -> T:
        async with asyncio.timeout(limit):
            task = asyncio.ensure_future(answer)
            try:
                while True:
                    done, _ = await asyncio.wait({task}, timeout=_SUSPECT_S)
                    if done:
                        return task.result()
                    await client.get_meta()
            finally:
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError, Exception):
                    await task

    async def _connect(self) -> WeaviateAsyncClient:
        client = _made(self.address, key=self._key, deadline_s=self.deadline_s)
        try:
            await client.connect()
            self.version = str((await client.get_meta())["version"])
            self._check_version()
            await self._wait_until_ready(client)
        except BaseException as error:
            await client.close()
            if isinstance(error, Exception):
                raise errors.translated(error, self.address.where) from None
            raise
        return client

    async def _look_again(self, client: WeaviateAsyncClient) -> None:
        """Check a server that may have restarted since a failure."""
        try:
            await client.get_meta()
            ready = await self._is_ready(client)
        except Exception as error:  # noqa: BLE001 - as in `ask`
            raise errors.translated(error, self.address.where) from None
        if not ready:
            raise errors.named("starting", self.address.where)
        self._doubted, self._heard = False, time.monotonic()

    def _check_version(self) -> None:
        numbers = [int(part) if part.isdigit() else 0 for part in self.version.split(".")[:2]]
        if tuple(numbers) < errors.OLDEST:
            oldest = ".".join(map(str, errors.OLDEST))
            raise errors.named("old", self.address.where, version=self.version, oldest=oldest)

    async def _wait_until_ready(self, client: WeaviateAsyncClient) -> None:
        until = time.monotonic() + self.start_s
        while not await self._is_ready(client):
            if time.monotonic() > until:
                raise errors.named("starting", self.address.where)
            await asyncio.sleep(_PAUSE_S)
        try:
            async with asyncio.timeout(_SUSPECT_S * 3):
                await client.collections.use("Workbench").query.fetch_objects(limit=1)
        except TimeoutError:
            raise errors.named("grpc", self.address.where, port=self.address.grpc_port) from None
        except Exception as error:
            # "No such collection" and "the key may not read it" are answers.
            if errors.meaning(str(error)) not in {"collection", "refused", "other"}:
                raise

    async def _is_ready(self, client: WeaviateAsyncClient) -> bool:
        """Return whether the server has read its schema; its ready flag comes seconds earlier."""
        from weaviate.exceptions import InsufficientPermissionsError

        try:
            statistics = await client.cluster.statistics()
        except InsufficientPermissionsError:  # the key may not read the cluster; its reads decide
            return await client.is_ready()
        except Exception as error:
            if getattr(error, "status_code", None) == 401:
                raise
            return False
        self.term = max((int(node.raft.term) for node in statistics.statistics), default=0)
        return bool(statistics.statistics) and all(
            node.db_loaded and node.ready for node in statistics.statistics
        )


def _part(client: WeaviateAsyncClient, collection: str, tenant: str) -> Any:
    return client.collections.use(collection).with_tenant(tenant)


def _made(address: Address, *, key: str | None, deadline_s: float) -> WeaviateAsyncClient:
    import weaviate
    from weaviate.classes.init import AdditionalConfig, Auth, Timeout

    if key is None and address.api_key_env is not None:
        key = secret(address.api_key_env, needed_by=f"the Weaviate at {address.where}")
    return weaviate.use_async_with_custom(
        http_host=address.host,
        http_port=address.port,
        http_secure=address.secure,
        grpc_host=address.grpc_host or address.host,
        grpc_port=address.grpc_port,
        grpc_secure=address.secure,
        auth_credentials=None if key is None else Auth.api_key(key),
        skip_init_checks=True,  # they ask PyPI for the client's newest version
        additional_config=AdditionalConfig(
            timeout=Timeout(init=5, query=deadline_s, insert=deadline_s), trust_env=False
        ),
    )
