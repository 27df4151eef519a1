"""Tokens for scripts. Only a digest is stored: a token is shown once, when it is made."""

import hashlib
import secrets
from datetime import datetime, timedelta
from typing import Any, ClassVar

from django.conf import settings
from django.contrib.auth.models import User
from django.db import models
from django.utils import timezone

USE_NOTED_EVERY = timedelta(minutes=1)
"""A token in constant use costs one write in this time."""
MAX_KEY_CHARS = 200
"""Of an idempotency key."""


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


class ApiTokenQuerySet(models.QuerySet["ApiToken"]):
    def valid(self) -> "ApiTokenQuerySet":
        """Those that have not expired, of users who may sign in."""
        in_time = models.Q(expires_at=None) | models.Q(expires_at__gt=timezone.now())
        return self.filter(in_time, user__is_active=True)


class ApiToken(models.Model):
    """Lets a script act as a user: `Authorization: Bearer TOKEN`."""

    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="api_tokens"
    )
    name = models.CharField(max_length=80)
    """What it is for."""
    digest = models.CharField(max_length=64, unique=True)
    created_at = models.DateTimeField(default=timezone.now)
    expires_at = models.DateTimeField(null=True, blank=True)
    """None: never."""
    last_used_at = models.DateTimeField(null=True, blank=True)

    objects: ClassVar[Any] = ApiTokenQuerySet.as_manager()

    class Meta:
        ordering: ClassVar = ["-created_at", "-id"]

    def __str__(self) -> str:
        return self.name

    @property
    def is_expired(self) -> bool:
        return self.expires_at is not None and self.expires_at <= timezone.now()

    @classmethod
    def issue(cls, user: User, name: str, expires_at: datetime | None = None) -> str:
        """Make a token and return it: the only time that it can be read."""
        token = f"studio_{secrets.token_urlsafe(32)}"
        cls.objects.create(user=user, name=name, digest=_digest(token), expires_at=expires_at)
        return token

    @classmethod
    def user_of(cls, token: str) -> User | None:
        """Whose token this is, noting its use; None when it is unknown or expired, or its user may not
        sign in.
        """
        found = cls.objects.valid().select_related("user").filter(digest=_digest(token)).first()
        if found is None:
            return None
        found.note_use()
        user: User = found.user
        return user

    def note_use(self) -> None:
        now = timezone.now()
        if self.last_used_at is None or self.last_used_at < now - USE_NOTED_EVERY:
            ApiToken.objects.filter(pk=self.pk).update(last_used_at=now)


class KeptAnswer(models.Model):
    """What was answered to a request with an `Idempotency-Key`, to be answered again."""

    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="kept_answers"
    )
    key = models.CharField(max_length=MAX_KEY_CHARS)
    request_digest = models.CharField(max_length=64)
    status = models.PositiveSmallIntegerField(default=0)
    body = models.JSONField(default=dict)
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["user", "key"], name="kept_answer_once")
        ]

    def __str__(self) -> str:
        return self.key
