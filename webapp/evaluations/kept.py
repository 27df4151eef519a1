"""Numbers of an evaluation that take long to work out, as rows: whoever stores its rollouts works them out, pages read them.

While a worker holds the evaluation a page shows what is kept, however old; the worker sees to it that it is seconds old
at most. Otherwise what is kept is shown as long as it is of the evaluation's present state, and worked out anew when not.
"""

import time
from collections.abc import Callable
from contextlib import suppress
from typing import Generic, TypeVar

from pydantic import TypeAdapter, ValidationError

from webapp.evaluations.models import Evaluation, KeptNumbers

Numbers = TypeVar("Numbers")

REVISION = 1
"""Raised when the same rollouts come to other numbers, so that none worked out before are shown."""
SHARE = 0.05
"""Of a worker's time, for keeping numbers up to date while it stores rollouts."""


class Kept(Generic[Numbers]):
    """One kind of numbers. `state` names all they are made of: while it is the same, so are they."""

    def __init__(
        self,
        name: str,
        form: type[Numbers],
        *,
        state: Callable[[Evaluation], str],
        work_out: Callable[[Evaluation], Numbers],
    ) -> None:
        self._name, self._form = name, TypeAdapter(form)
        self._state, self._work_out = state, work_out

    def of(self, evaluation: Evaluation) -> Numbers:
        """Those kept; worked out now where there are none to show."""
        row = KeptNumbers.objects.filter(evaluation=evaluation, name=self._name).first()
        if row and (evaluation.is_live or row.state == self._state_of(evaluation)):
            # those of an earlier release may have another form
            with suppress(ValidationError):
                return self._form.validate_json(row.numbers)
        return self._renew(evaluation)

    def bring_up_to_date(self, evaluation: Evaluation) -> None:
        """For whoever has stored what they are made of."""
        rows = KeptNumbers.objects.filter(evaluation=evaluation, name=self._name)
        if not rows.filter(state=self._state_of(evaluation)).exists():
            self._renew(evaluation)

    def _renew(self, evaluation: Evaluation) -> Numbers:
        # the state first: what comes in between is worked out again
        state, found = self._state_of(evaluation), self._work_out(evaluation)
        told = {"state": state, "numbers": self._form.dump_json(found).decode()}
        KeptNumbers.objects.update_or_create(evaluation=evaluation, name=self._name, defaults=told)
        return found

    def _state_of(self, evaluation: Evaluation) -> str:
        return f"{REVISION}:{self._state(evaluation)}"


class Renewal:
    """Does `work` again and again, each time it is called, but for a small share of the time only."""

    def __init__(self, work: Callable[[], None]) -> None:
        self._work, self._next = work, 0.0

    def __call__(self) -> None:
        began = time.monotonic()
        if began >= self._next:
            self._work()
            ended = time.monotonic()
            self._next = ended + (ended - began) / SHARE
