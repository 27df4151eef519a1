"""The form that registers a verifier."""

from django import forms
from django.contrib.auth.models import User

from webapp.verifiers import registry
from webapp.verifiers.models import Verifier, VerifierKind


def _text(placeholder: str) -> forms.TextInput:
    return forms.TextInput(
        {"class": "form-control", "placeholder": placeholder, "autocomplete": "off"}
    )


class VerifierForm(forms.Form):
    name = forms.CharField(max_length=80, widget=_text("starter-judge"))
    kind = forms.ChoiceField(
        choices=VerifierKind.choices, widget=forms.Select({"class": "form-select"})
    )
    path = forms.CharField(
        label="Model", max_length=500, widget=_text("var/verifiers/starter-judge")
    )
    endpoint = forms.CharField(
        required=False, max_length=500, widget=_text("none: a worker loads the model")
    )

    def save(self, owner: User | None) -> Verifier | None:
        """The new row; None with the error beside its field when it cannot be."""
        try:
            return registry.register(**self.cleaned_data, owner=owner)
        except registry.RegistryError as error:
            self.add_error(error.field, str(error))
            return None
