"""Lines of an event file as rows: what a run's and a shard's have in common."""

from typing import Any, ClassVar, Self

from django.db import models

from trainer.events import AnyEvent


class EventRow(models.Model):
    """One line of an event file, as it was."""

    seq = models.BigIntegerField()
    time = models.DateTimeField()
    type = models.CharField(max_length=20)
    payload = models.JSONField()
    """The event without seq, time and type."""

    class Meta:
        abstract = True
        ordering: ClassVar = ["seq"]

    @classmethod
    def of(cls, event: AnyEvent, **whose: models.Model) -> Self:
        """The row of an event of `whose` file, not saved."""
        payload = event.model_dump(mode="json", exclude={"seq", "time", "type"})
        return cls(seq=event.seq, time=event.time, type=event.type, payload=payload, **whose)

    @property
    def as_written(self) -> dict[str, Any]:
        """The event as `trainer.events` defines it."""
        return {"seq": self.seq, "time": self.time.isoformat(), "type": self.type, **self.payload}
