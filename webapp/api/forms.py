"""The form that makes an API token."""

from datetime import datetime, timedelta

from django import forms
from django.utils import timezone

from webapp.api.models import ApiToken

NEVER = "never"
LIFETIMES = [
    ("7", "in 7 days"),
    ("30", "in 30 days"),
    ("90", "in 90 days"),
    ("365", "in a year"),
    (NEVER, "never"),
]


class TokenForm(forms.Form):
    name = forms.CharField(
        max_length=ApiToken._meta.get_field("name").max_length,
        widget=forms.TextInput(
            {"class": "form-control", "placeholder": "nightly evaluation", "autocomplete": "off"}
        ),
    )
    lifetime = forms.ChoiceField(
        choices=LIFETIMES, initial="90", widget=forms.Select({"class": "form-select"})
    )
    """In days."""

    @property
    def expires_at(self) -> datetime | None:
        lifetime = self.cleaned_data["lifetime"]
        return None if lifetime == NEVER else timezone.now() + timedelta(days=int(lifetime))
