"""The forms of the `runs` pages: a whole run's configuration, and how the curves are drawn.

`ConfigForm` has one field for each field of a configuration and leaves all judging to its parser, so
that the page, the command line and the API refuse the same values with the same words.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

from django import forms
from django.forms.boundfield import BoundField
from django.http import QueryDict
from django.urls import reverse_lazy
from pydantic import BaseModel

from trainer.config import ConfigError, TrainConfig, parse_config
from webapp.runs import placement, practice
from webapp.runs.charts import Axes
from webapp.runs.configs import ConfigField, ConfigSection, config_sections, shown, value_at

MAIN_FIELDS = (
    "tasks.taskset",
    "sandbox.backend",
    "num_steps",
    "seed",
    "tasks.difficulties",
    "tasks.only",
    "tasks.limit",
    "tasks.tasks_per_step",
    "rollout.group_size",
    "rollout.temperature",
    "optimizer.learning_rate",
    "evaluation.every_steps",
)
"""Shown first; all others are folded into their sections."""
TASKSET = "tasks.taskset"
ONLY = "tasks.only"
_ADAPT = {
    "hx-post": reverse_lazy("runs:adapt"),
    "hx-trigger": "change",
    "hx-target": "#run-form",
    "hx-swap": "outerHTML",
    "hx-include": "#run-form",
}
"""On choosing another taskset the form is fetched with the filters that it can serve."""


@dataclass(frozen=True, kw_only=True)
class FormField:
    """A field of the form with what the page says about it."""

    config: ConfigField
    bound: BoundField
    recipe_value: str
    differs: bool
    """From the recipe, as it stands in the form."""


@dataclass(frozen=True, kw_only=True)
class FormSection:
    section: ConfigSection
    fields: list[FormField]

    @property
    def num_different(self) -> int:
        return sum(field.differs for field in self.fields)

    @property
    def is_open(self) -> bool:
        return any(field.bound.errors or field.differs for field in self.fields)


class NamesField(forms.Field):
    """Names with commas between them, as a list."""

    def prepare_value(self, value: Any) -> Any:
        return ", ".join(value) if isinstance(value, list) else value

    def to_python(self, value: Any) -> list[str]:
        return [name.strip() for name in (value or "").split(",") if name.strip()]


class ConfigForm(forms.Form):
    """A name and every field of a configuration. After `is_valid()`, `config` is that configuration."""

    whole: ClassVar[type[BaseModel]]
    main: ClassVar[tuple[str, ...]]
    """Fields that are shown first."""
    queue: ClassVar[str]
    adapt: ClassVar[dict[str, Any]] = {}
    """Attributes of the field that chooses the taskset."""
    name = forms.CharField(
        max_length=120,
        widget=forms.TextInput(attrs={"class": "form-control", "autocomplete": "off"}),
    )
    config: Any
    """Missing while a field of it is wrong."""

    def __init__(
        self, data: Any, *, recipe: dict[str, Any], base: dict[str, Any], name: str
    ) -> None:
        """`base` fills the form; `recipe` is what its values are compared with."""
        super().__init__(data, initial={"name": name}, prefix=None, label_suffix="")
        self.recipe, self.base = recipe, base
        for section in self.sections():
            for field in section.fields:
                self.fields[field.path] = _form_field(field, value_at(base, field.path))
        self.fields[TASKSET] = self._taskset_field()
        self.backends = practice.backend_offers(self.queue)

    @classmethod
    def sections(cls) -> list[ConfigSection]:
        return config_sections(cls.whole)

    def judge(self, data: dict[str, Any]) -> tuple[Any, list[tuple[str, str]]]:
        """The configuration, and what is wrong with it beyond that. Raises ConfigError."""
        raise NotImplementedError

    def clean(self) -> dict[str, Any]:
        values = self.cleaned_data
        data: dict[str, Any] = {
            "recipe": self.base["recipe"],
            "description": self.base["description"],
        }
        for path in (field.path for section in self.sections() for field in section.fields):
            if path in values:
                _put(data, path, values[path])
        try:
            config, found = self.judge(data)
        except ConfigError as error:
            found = error.problems
        if not found:
            self.config = config
        for path, message in found:
            self.add_error(path if path in self.fields else None, message)
        return values

    def _taskset_field(self) -> forms.ChoiceField:
        """By name, of those that the studio knows."""
        plain = self.fields[TASKSET]
        current = (self.data.get(TASKSET) if self.is_bound else "") or plain.initial
        return forms.ChoiceField(
            label=plain.label,
            help_text=plain.help_text,
            required=False,
            initial=plain.initial,
            choices=practice.taskset_choices(current),
            widget=forms.Select(attrs={"class": "form-select", **self.adapt}),
        )

    def main_fields(self) -> list[FormField]:
        """In the order of `main`."""
        main = [field for field in self._all_fields() if field.config.path in self.main]
        return sorted(main, key=lambda field: self.main.index(field.config.path))

    def folded_sections(self) -> list[FormSection]:
        sections = []
        for section in self.sections():
            folded = [f for f in section.fields if f.path not in self.main]
            if folded:
                fields = [self._form_field(field) for field in folded]
                sections.append(FormSection(section=section, fields=fields))
        return sections

    def differences(self) -> list[FormField]:
        return [field for field in self._all_fields() if field.differs]

    def _all_fields(self) -> Iterator[FormField]:
        for section in self.sections():
            yield from (self._form_field(field) for field in section.fields)

    def _form_field(self, field: ConfigField) -> FormField:
        bound, recipe_value = self[field.path], value_at(self.recipe, field.path)
        return FormField(
            config=field,
            bound=bound,
            recipe_value=shown(recipe_value, field.path),
            differs=not _same(field, bound.value(), recipe_value),
        )


class RunForm(ConfigForm):
    """Name and configuration of a new run, a TrainConfig."""

    whole = TrainConfig
    main = MAIN_FIELDS
    queue = placement.QUEUE
    adapt = _ADAPT

    def judge(self, data: dict[str, Any]) -> tuple[TrainConfig, list[tuple[str, str]]]:
        config = parse_config(data)
        return config, list(practice.problems(config))


def fit_to_taskset(data: QueryDict, base: dict[str, Any]) -> tuple[QueryDict, list[str]]:
    """What was sent, once another taskset is chosen in it, without the filters that mean nothing to that taskset, and
    which these were. Those of `base` come back with its taskset.
    """
    fitted = data.copy()
    if data.get(TASKSET) == value_at(base, TASKSET):
        for path in practice.FILTERS:
            if not _names(data, path):
                _set_names(fitted, path, value_at(base, path))
        return fitted, []
    values = {path: _names(data, path) for path in practice.FILTERS}
    unfit = practice.unfit_filters(data.get(TASKSET, ""), values)
    for path in unfit:
        _set_names(fitted, path, [])
    return fitted, unfit


def _names(data: QueryDict, path: str) -> list[str]:
    """The values of a filter, sent as boxes or as text with commas."""
    return [name for text in data.getlist(path) for name in NamesField().to_python(text)]


def _set_names(data: QueryDict, path: str, names: list[str]) -> None:
    data.setlist(path, [", ".join(names)] if path == ONLY else names)


class AxesForm(forms.Form):
    """How the curves are drawn, from the address. Wrong values fall back to the plain view."""

    x = forms.ChoiceField(choices=[("step", "Step"), ("time", "Wall clock")], required=False)
    smoothing = forms.FloatField(min_value=0, max_value=0.99, required=False)
    log = forms.BooleanField(required=False)

    def axes(self) -> Axes:
        self.is_valid()
        values = self.cleaned_data
        return Axes(
            x="time" if values.get("x") == "time" else "step",
            smoothing=values.get("smoothing") or 0.0,
            log=bool(values.get("log")),
        )


def _form_field(field: ConfigField, value: Any) -> forms.Field:
    common: dict[str, Any] = {
        "label": field.name.replace("_", " "),
        "help_text": field.help,
        "required": False,
        "initial": value,
    }
    choices = [(choice, choice) for choice in field.choices]
    match field.kind:
        case "flag":
            switch = forms.CheckboxInput(attrs={"class": "form-check-input", "role": "switch"})
            return forms.BooleanField(**common, widget=switch)
        case "choice":
            select = forms.Select(attrs={"class": "form-select"})
            return forms.ChoiceField(**common, choices=choices, widget=select)
        case "choices":
            boxes = forms.CheckboxSelectMultiple(attrs={"class": "form-check-input"})
            return forms.MultipleChoiceField(**common, choices=choices, widget=boxes)
        case _:
            attrs = {"class": "form-control", "autocomplete": "off", "spellcheck": "false"}
            if field.kind == "number":
                attrs |= {"inputmode": "decimal", "class": "form-control num"}
            if isinstance(value, float):
                common["initial"] = f"{value:g}"
            kind = NamesField if field.kind == "names" else forms.CharField
            return kind(**common, widget=forms.TextInput(attrs=attrs))


def _same(field: ConfigField, value: Any, recipe_value: Any) -> bool:
    """Numbers are compared as numbers, so that 0.40 is 0.4."""
    if field.kind == "number":
        try:
            return float(value) == float(recipe_value)
        except (TypeError, ValueError):
            return False
    if field.kind == "flag":
        return bool(value) == bool(recipe_value)
    if field.kind == "names":
        return bool(value == ", ".join(recipe_value or []))
    return (value or "") == (recipe_value or "")


def _put(data: dict[str, Any], path: str, value: Any) -> None:
    *parents, last = path.split(".")
    for key in parents:
        data = data.setdefault(key, {})
    data[last] = value
