"""The form that adds a webhook: its address is looked up at once, so that a wrong one is seen here."""

from django import forms
from django.core.exceptions import ValidationError

from webapp.webhooks import destination
from webapp.webhooks.models import MAX_URL_CHARS


class WebhookForm(forms.Form):
    url = forms.CharField(
        max_length=MAX_URL_CHARS,
        widget=forms.URLInput(
            {
                "class": "form-control",
                "placeholder": "https://ci.example.com/studio",
                "autocomplete": "off",
            }
        ),
    )

    def clean_url(self) -> str:
        url: str = self.cleaned_data["url"]
        try:
            destination.resolve(url)
        except destination.RefusedError as error:
            raise ValidationError(str(error)) from error
        except (OSError, UnicodeError) as error:
            raise ValidationError(f"{url}: its name cannot be resolved") from error
        return url
