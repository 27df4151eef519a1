"""What a run did after event number n, the same for websockets, polling clients and scripts.

Each event is as its process wrote it: `{seq, time, type, ...}`. Nothing is left out; large things
are files anyway.
"""

from typing import Any
from uuid import UUID

from channels.layers import get_channel_layer

from webapp.runs.models import Event

MAX_EVENTS = 500
"""In one frame or one answer; ask again from its last seq for more."""


def events_after(run_id: UUID, after: int, limit: int) -> list[dict[str, Any]]:
    """At most `limit` events with seq > after, in order."""
    rows = Event.objects.filter(run_id=run_id, seq__gt=after).order_by("seq")[:limit]
    return [event.as_written for event in rows]


def group_name(run_id: UUID) -> str:
    """The channel group of those who watch a run."""
    return f"run.{run_id}"


async def nudge(run_id: UUID, max_seq: int) -> None:
    """Tell those who watch that there is more to read. A lost one costs a second, no data."""
    message = {"type": "run.nudge", "run": str(run_id), "max_seq": max_seq}
    await get_channel_layer().group_send(group_name(run_id), message)
