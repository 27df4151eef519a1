"""What a step measures, in a form that adds up: over micro-batches, over ranks, over steps.

A mean or a rate is a `Ratio` and adds by numerators and denominators, so a mean over any split equals the mean over the whole;
an extreme is a number and adds by its maximum. One rank's tally is small and picklable: gather all of them
(`torch.distributed.all_gather_object`) and `merge`. It knows no names: who measures what is in `steps`, `tokens` and `speed`.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple, Self

from trainer.events import Metric


class Ratio(NamedTuple):
    """numerator / denominator; a denominator of 0 counts nowhere."""

    numerator: float
    denominator: float

    def plus(self, other: "Ratio") -> "Ratio":
        return Ratio(self.numerator + other.numerator, self.denominator + other.denominator)


@dataclass(kw_only=True)
class Tally:
    """Ratios and maxima by name."""

    ratios: dict[str, Ratio] = field(default_factory=dict)
    maxima: dict[str, float] = field(default_factory=dict)

    def add(self, name: str, numerator: float, denominator: float) -> None:
        self.ratios[name] = self.ratio(name).plus(Ratio(numerator, denominator))

    def raise_to(self, name: str, value: float) -> None:
        """Keep the larger one; not a number beats every number, in whatever order they come."""
        known = self.maxima.get(name, -math.inf)
        self.maxima[name] = (
            math.nan if math.isnan(known) or math.isnan(value) else max(known, value)
        )

    def ratio(self, name: str) -> Ratio:
        return self.ratios.get(name, Ratio(0.0, 0.0))

    def include(self, other: "Tally") -> Self:
        """Add what `other` measured."""
        for name, ratio in other.ratios.items():
            self.add(name, *ratio)
        for name, value in other.maxima.items():
            self.raise_to(name, value)
        return self

    def metrics(self) -> dict[str, Metric]:
        """The pairs of the step's event. What is not finite is (0, 0), which counts nowhere: JSON has no word for it."""
        pairs = {**self.ratios, **{name: Ratio(value, 1.0) for name, value in self.maxima.items()}}
        return {
            name: (pair.numerator, pair.denominator)
            if all(map(math.isfinite, pair))
            else (0.0, 0.0)
            for name, pair in pairs.items()
        }


def merge(tallies: Iterable[Tally]) -> Tally:
    """All of them as one; the order changes nothing but rounding."""
    whole = Tally()
    for tally in tallies:
        whole.include(tally)
    return whole
