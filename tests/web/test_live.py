"""The live protocol: every event once and in order, however often a client comes and goes.

Each test of what is sent runs with Redis as the channel layer and with none but the process's own.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from asgiref.sync import sync_to_async
from channels.routing import URLRouter
from channels.testing import WebsocketCommunicator
from django.contrib.auth.models import AnonymousUser, User
from django.db import OperationalError
from django.test import AsyncClient, Client

from trainer.config import TrainConfig
from webapp.asgi import application
from webapp.routing import websocket_urlpatterns
from webapp.runs import consumers, feed, lifecycle
from webapp.runs.ingest import ingest
from webapp.runs.models import Run

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(params=["redis", "in process"])
def layer(request: pytest.FixtureRequest, settings) -> None:
    backend: dict[str, Any] = {"BACKEND": "channels.layers.InMemoryChannelLayer"}
    if request.param == "redis":
        url = request.getfixturevalue("redis_url")
        backend = {
            "BACKEND": "channels_redis.core.RedisChannelLayer",
            "CONFIG": {"hosts": [url]},
        }
    settings.CHANNEL_LAYERS = {"default": backend}


@pytest.fixture
def run(config: TrainConfig) -> Run:
    return lifecycle.launch(config=config, name="watched", owner=None)


class Recording:
    """A run's event file that grows when a test says so."""

    def __init__(self, run_id: UUID, source: Path, target: Path) -> None:
        self.run_id, self.target = run_id, target
        self.lines = (source / "events.jsonl").read_bytes().splitlines(keepends=True)
        self.written = 0
        (target / "rollouts").mkdir(parents=True)
        for log in (source / "rollouts").iterdir():
            log.rename(target / "rollouts" / log.name)

    async def grow(self, to: int | None = None) -> int:
        """Let the run go on to event `to` and be ingested. Returns its last seq."""
        end = len(self.lines) if to is None else to
        with (self.target / "events.jsonl").open("ab") as file:
            file.writelines(self.lines[self.written : end])
        self.written = end
        await sync_to_async(ingest)(self.run_id, self.target)
        return end


@pytest.fixture
def recording(run: Run, record: Callable[..., Path], tmp_path: Path) -> Recording:
    return Recording(run.id, record(run.id), tmp_path / "growing")


@asynccontextmanager
async def watching(run_id: UUID, after: int = 0) -> AsyncIterator[WebsocketCommunicator]:
    client = connecting(run_id, f"after={after}", User(username="alice"))
    connected, _ = await client.connect()
    assert connected
    yield client
    await client.disconnect()


def connecting(run_id: UUID, query: str, user: User | AnonymousUser) -> WebsocketCommunicator:
    """A client that the sign-in middleware has let through as `user`."""
    client = WebsocketCommunicator(URLRouter(websocket_urlpatterns), f"/ws/runs/{run_id}/?{query}")
    client.scope["user"] = user
    return client


async def receive(client: WebsocketCommunicator, until_seq: int) -> list[dict[str, Any]]:
    events: list[dict[str, Any]] = []
    while not events or events[-1]["seq"] < until_seq:
        frame = await client.receive_json_from(timeout=10)
        assert frame["last_seq"] == frame["events"][-1]["seq"]
        assert len(frame["events"]) <= feed.MAX_EVENTS
        events += frame["events"]
    return events


@pytest.mark.usefixtures("layer")
async def test_a_client_that_was_cut_off_gets_every_event_once(recording: Recording) -> None:
    await recording.grow(to=20)
    async with watching(recording.run_id) as client:
        events = await receive(client, 20)
        await recording.grow(to=45)
        events += await receive(client, 45)
    await recording.grow(to=90)
    async with watching(recording.run_id, after=events[-1]["seq"]) as client:
        events += await receive(client, 90)
        last = await recording.grow()
        events += await receive(client, last)
        assert await client.receive_nothing(timeout=1.5)
    assert [event["seq"] for event in events] == [*range(1, last + 1)]


@pytest.mark.usefixtures("layer")
async def test_a_late_client_sees_what_an_early_one_saw(
    recording: Recording, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed, "MAX_EVENTS", 50)
    async with watching(recording.run_id) as early:
        live: list[dict[str, Any]] = []
        for to in (1, 2, 30, None):
            last = await recording.grow(to)
            live += await receive(early, last)
    async with watching(recording.run_id) as late:
        assert await receive(late, last) == live
    assert await sync_to_async(read_by_api)(recording.run_id) == live


def read_by_api(run_id: UUID) -> list[dict[str, Any]]:
    client = Client()
    client.force_login(User.objects.create_user("script"))
    events: list[dict[str, Any]] = []
    while True:
        after = events[-1]["seq"] if events else 0
        page = client.get(f"/api/runs/{run_id}/events?after={after}&limit=30").json()
        assert page["last_seq"] == (page["events"][-1]["seq"] if page["events"] else after)
        if not page["events"]:
            return events
        events += page["events"]


@pytest.mark.usefixtures("layer")
async def test_a_nudge_brings_events_at_once(
    recording: Recording, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consumers, "POLL_S", 60)
    async with watching(recording.run_id) as client:
        await asyncio.sleep(0.3)
        await recording.grow(to=5)
        assert len(await receive(client, 5)) == 5


async def test_without_nudges_events_come_a_second_later(
    recording: Recording, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def lose(run_id: UUID, max_seq: int) -> None:
        return

    monkeypatch.setattr(feed, "nudge", lose)
    async with watching(recording.run_id) as client:
        await asyncio.sleep(0.3)
        await recording.grow(to=5)
        assert len(await receive(client, 5)) == 5


async def test_a_database_that_is_away_closes_the_connection_and_the_client_comes_back(
    recording: Recording, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: Any) -> None:
        raise OperationalError("the database is restarting")

    with monkeypatch.context() as fault:
        fault.setattr(consumers, "read", sync_to_async(away))
        client = connecting(recording.run_id, "after=0", User(username="alice"))
        await client.connect()
        assert (await client.receive_output(5))["code"] == consumers.TRY_AGAIN
    async with watching(recording.run_id) as client:
        await recording.grow(to=5)
        assert len(await receive(client, 5)) == 5


@pytest.mark.parametrize("query", ["after=x", "after=-1"])
async def test_a_bad_position_is_refused(run: Run, query: str) -> None:
    connected, _ = await connecting(run.id, query, User(username="alice")).connect()
    assert not connected


async def test_an_unknown_run_is_refused() -> None:
    connected, _ = await connecting(uuid4(), "after=0", User(username="alice")).connect()
    assert not connected


async def test_who_is_not_signed_in_is_refused(run: Run) -> None:
    connected, _ = await connecting(run.id, "after=0", AnonymousUser()).connect()
    assert not connected


@pytest.fixture
def signed_in() -> str:
    """The cookie of a signed-in browser."""
    client = AsyncClient()
    client.force_login(User.objects.create_user("alice"))
    return f"sessionid={client.cookies['sessionid'].value}"


@pytest.mark.parametrize(
    ("origin", "cookie", "welcome"),
    [
        ("http://localhost:8000", True, True),
        ("http://localhost:8000", False, False),
        ("http://evil.example", True, False),
    ],
)
async def test_only_our_own_pages_may_listen(
    run: Run, signed_in: str, origin: str, cookie: bool, welcome: bool
) -> None:
    headers = [(b"origin", origin.encode()), (b"host", b"localhost:8000")]
    if cookie:
        headers.append((b"cookie", signed_in.encode()))
    client = WebsocketCommunicator(application, f"/ws/runs/{run.id}/", headers=headers)
    connected, _ = await client.connect()
    assert connected is welcome
    await client.disconnect()
