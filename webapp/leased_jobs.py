"""A job that one worker at a time holds by a lease, which it renews: what its row has, and every change of its status.

    queued -> running -> finished | failed
      |          +--> stopping -> stopped
      +--> stopped
      running -> queued (its worker ended)

Each change is a conditional update: of two who try, one succeeds. Who may begin a job, and which worker may take it, is the
business of the app that it belongs to.
"""

import uuid
from datetime import timedelta
from typing import Any, ClassVar, Self
from uuid import UUID, uuid4

from django.conf import settings
from django.db import models
from django.utils import timezone

LEASE = timedelta(seconds=20)


class JobStatus(models.TextChoices):
    QUEUED = "queued", "Queued"
    RUNNING = "running", "Running"
    STOPPING = "stopping", "Stopping"
    STOPPED = "stopped", "Stopped"
    FINISHED = "finished", "Finished"
    FAILED = "failed", "Failed"


HELD = (JobStatus.RUNNING, JobStatus.STOPPING)
UNDER_WAY = (JobStatus.QUEUED, *HELD)


class LeasedJobQuerySet(models.QuerySet[Any]):
    def under_way(self) -> Self:
        return self.filter(status__in=UNDER_WAY)

    def request_stop(self, by: str) -> bool:
        """Queued ones are stopped, running ones told to. False when there was neither."""
        reason = f"Stopped by {by}."
        stopping = {"status": JobStatus.STOPPING, "reason": reason}
        return bool(
            self.filter(status=JobStatus.QUEUED).update(**_ended(JobStatus.STOPPED, reason))
            or self.filter(status=JobStatus.RUNNING).update(**stopping)
        )

    def claim(self, job_id: UUID, **begun: Any) -> UUID | None:
        """Take a queued one: the lease, or None when it is not to be had. `begun` are fields that start anew."""
        lease, now = uuid4(), timezone.now()
        taken = self.filter(id=job_id, status=JobStatus.QUEUED).update(
            status=JobStatus.RUNNING,
            reason="",
            lease=lease,
            lease_expires_at=now + LEASE,
            started_at=now,
            **begun,
        )
        return lease if taken else None

    def renew(self, job_id: UUID, lease: UUID) -> bool:
        """Keep it. False when it was lost, and the caller is to let go at once."""
        held = self.filter(id=job_id, lease=lease)
        return held.update(lease_expires_at=timezone.now() + LEASE) == 1

    def settle(self, job_id: UUID, lease: UUID, status: JobStatus, reason: str) -> bool:
        """End a running one. One that is being stopped keeps the reason of the stop, unless it was finished first."""
        held, ended = self.filter(id=job_id, lease=lease), _ended(status, reason)
        if held.filter(status=JobStatus.RUNNING).update(**ended):
            return True
        if status != JobStatus.FINISHED:
            ended["status"] = JobStatus.STOPPED
            del ended["reason"]
        return held.filter(status=JobStatus.STOPPING).update(**ended) == 1

    def requeue(self, job_id: UUID, lease: UUID, reason: str) -> bool:
        """Give a running one back: what is done already is not done again."""
        held = self.filter(id=job_id, lease=lease, status=JobStatus.RUNNING)
        return held.update(status=JobStatus.QUEUED, reason=reason, lease=None) == 1

    def reap(self) -> list[UUID]:
        """Give back what dead workers held; all that wait. Run it every few seconds, anywhere."""
        silent = self.filter(lease_expires_at__lt=timezone.now())
        reason = "Its worker did not answer; goes on where it was."
        silent.filter(status=JobStatus.RUNNING).update(
            status=JobStatus.QUEUED, reason=reason, lease=None
        )
        stopped = _ended(JobStatus.STOPPED, "Its worker did not confirm the stop.")
        silent.filter(status=JobStatus.STOPPING).update(**stopped)
        return list(self.filter(status=JobStatus.QUEUED).values_list("id", flat=True))


def _ended(status: JobStatus, reason: str) -> dict[str, Any]:
    return {
        "status": status,
        "reason": reason,
        "finished_at": timezone.now(),
        "lease": None,
        "lease_expires_at": None,
    }


class LeasedJob(models.Model):
    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.SET_NULL
    )
    status = models.CharField(max_length=12, choices=JobStatus, default=JobStatus.QUEUED)
    reason = models.TextField(blank=True)
    """Why it is where it is: one sentence for people."""
    created_at = models.DateTimeField(default=timezone.now)
    started_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)
    lease = models.UUIDField(null=True, blank=True, editable=False)
    """Made by the claim; whoever holds another one has lost the job."""
    lease_expires_at = models.DateTimeField(null=True, blank=True)

    objects: ClassVar[Any] = LeasedJobQuerySet.as_manager()

    class Meta:
        abstract = True
        ordering: ClassVar = ["-created_at"]

    @property
    def is_under_way(self) -> bool:
        return self.status in UNDER_WAY

    @property
    def is_live(self) -> bool:
        """A worker holds it."""
        return self.status in HELD

    @property
    def is_ended(self) -> bool:
        return not self.is_under_way


def one_under_way(of: str, *, name: str) -> models.UniqueConstraint:
    """At most one job that has not ended for each `of`."""
    return models.UniqueConstraint(
        fields=[of], condition=models.Q(status__in=("queued", "running", "stopping")), name=name
    )
