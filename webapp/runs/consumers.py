"""Live data: a websocket that sends a run's events in order, each once.

The database is what is read; the channel layer only says when (`feed.nudge`). Where no nudge comes,
because there is no Redis or it got lost, the database is read a second later anyway. A client that
comes back names the last seq it has, and misses nothing.
"""

import asyncio
import logging
from typing import Any
from urllib.parse import parse_qs
from uuid import UUID

from channels.db import database_sync_to_async
from channels.generic.websocket import AsyncJsonWebsocketConsumer
from django.db import DatabaseError

from webapp.runs import feed
from webapp.runs.models import Run

logger = logging.getLogger(__name__)

POLL_S = 1.0
TRY_AGAIN = 1013
"""Of the IANA's close codes for websockets."""

read = database_sync_to_async(feed.events_after)


class RunConsumer(AsyncJsonWebsocketConsumer):
    """`/ws/runs/<id>/?after=<seq>` sends `{events: [...], last_seq}`; it listens to nobody."""

    run_id: UUID
    after: int
    forwarding: "asyncio.Task[None] | None" = None

    async def connect(self) -> None:
        """Refuse (403) who is not signed in, an unknown run, and an `after` that is no number."""
        self.run_id = self.scope["url_route"]["kwargs"]["run_id"]
        after = parse_qs(self.scope["query_string"].decode()).get("after", ["0"])[-1]
        known = await Run.objects.filter(id=self.run_id).aexists()
        if not (self.scope["user"].is_authenticated and known and after.isdecimal()):
            await self.close()
            return
        self.after = int(after)
        self.nudged = asyncio.Event()
        await self.channel_layer.group_add(feed.group_name(self.run_id), self.channel_name)
        await self.accept()
        self.forwarding = asyncio.create_task(self.forward())

    async def disconnect(self, code: int) -> None:
        if self.forwarding:
            self.forwarding.cancel()
            await self.channel_layer.group_discard(feed.group_name(self.run_id), self.channel_name)

    async def run_nudge(self, message: dict[str, Any]) -> None:
        self.nudged.set()

    async def receive_json(self, content: Any, **kwargs: Any) -> None:
        pass

    async def forward(self) -> None:
        """Send what is new, then wait for a nudge or a second. A slow client is waited for.

        When the database cannot be read the connection is closed, and the client comes back.
        """
        try:
            await self.send_what_is_new()
        except DatabaseError:
            logger.exception("run %s: events cannot be read", self.run_id)
            await self.close(TRY_AGAIN)

    async def send_what_is_new(self) -> None:
        while True:
            self.nudged.clear()
            events = await read(self.run_id, self.after, feed.MAX_EVENTS)
            if events:
                self.after = events[-1]["seq"]
                await self.send_json({"events": events, "last_seq": self.after})
            if len(events) < feed.MAX_EVENTS:
                await self.wait()

    async def wait(self) -> None:
        try:
            await asyncio.wait_for(self.nudged.wait(), POLL_S)
        except TimeoutError:
            return
