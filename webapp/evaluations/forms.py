"""The form of a new evaluation: every field of EvalConfig, and how many workers share the tasks."""

from typing import Any

from django import forms
from django.contrib.auth.models import AnonymousUser, User

from trainer.config import ConfigError
from trainer.evaluations.config import EvalConfig, parse_evaluation
from webapp.evaluations import lifecycle
from webapp.evaluations.sweeps import configs_of
from webapp.runs.configs import ConfigSection, config_sections
from webapp.runs.forms import ConfigForm

MAIN_FIELDS = (
    "model.path",
    "model.endpoint",
    "tasks.taskset",
    "tasks.split",
    "tasks.difficulties",
    "tasks.only",
    "tasks.limit",
    "rollout.group_size",
    "rollout.temperature",
    "rollout.max_turns",
    "rollout.max_response_tokens",
    "sandbox.backend",
    "seed",
)
MAX_DIGITS = 9
"""Of a context limit."""


class EvaluationForm(ConfigForm):
    """Name, shards and configuration of a new evaluation, an EvalConfig."""

    whole = EvalConfig
    main = MAIN_FIELDS
    queue = lifecycle.QUEUE
    user: User | AnonymousUser = AnonymousUser()
    """Who launches it."""
    num_shards = forms.IntegerField(
        min_value=1,
        max_value=lifecycle.MAX_SHARDS,
        initial=1,
        widget=forms.NumberInput(attrs={"class": "form-control num"}),
    )

    context_limits = forms.CharField(
        required=False,
        widget=forms.TextInput(
            attrs={"class": "form-control num", "placeholder": "one evaluation, as above"}
        ),
    )
    """Of a sweep, in tokens after the prompt; empty for a single evaluation."""

    def clean_context_limits(self) -> list[int]:
        words = self.cleaned_data["context_limits"].replace(",", " ").split()
        if not all(word.isdecimal() and len(word) <= MAX_DIGITS for word in words):
            raise forms.ValidationError("Numbers of tokens, with commas between them.")
        return [int(word) for word in words]

    def clean(self) -> dict[str, Any]:
        data = super().clean()
        self.configs: list[EvalConfig] = []
        if data.get("context_limits") and not self.errors:
            try:
                self.configs = configs_of(self.config, data["context_limits"])
            except ConfigError as error:
                self.add_error("context_limits", error.problems[0][1])
        return data

    @classmethod
    def sections(cls) -> list[ConfigSection]:
        return config_sections(cls.whole, "evaluation")

    def judge(self, data: dict[str, Any]) -> tuple[EvalConfig, list[tuple[str, str]]]:
        config = parse_evaluation(data)
        lifecycle.check_key(config, self.user)
        return config, []
