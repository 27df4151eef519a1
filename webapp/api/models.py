"""Tokens for scripts. Only a digest is stored: a token is shown once, when it is made."""

import hashlib
import secrets
from typing import ClassVar

from django.conf import settings
from django.contrib.auth.models import User
from django.db import models
from django.utils import timezone


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


class ApiToken(models.Model):
    """Lets a script act as a user: `Authorization: Bearer TOKEN`."""

    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="api_tokens"
    )
    name = models.CharField(max_length=80)
    """What it is for."""
    digest = models.CharField(max_length=64, unique=True)
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering: ClassVar = ["-created_at"]

    def __str__(self) -> str:
        return self.name

    @classmethod
    def issue(cls, user: User, name: str) -> str:
        """Make a token and return it: the only time that it can be read."""
        token = f"studio_{secrets.token_urlsafe(32)}"
        cls.objects.create(user=user, name=name, digest=_digest(token))
        return token

    @classmethod
    def user_of(cls, token: str) -> User | None:
        """Whose token this is; None when it is unknown or its user may not sign in."""
        found = (
            cls.objects.select_related("user")
            .filter(digest=_digest(token), user__is_active=True)
            .first()
        )
        return found.user if found else None
