"""Two evaluations side by side, on the tasks that both have scored: who wins which, and whether it is chance."""

from dataclasses import dataclass

from trainer.evaluations.comparison import Difference, McNemar, bootstrap_difference, mcnemar
from webapp.evaluations.models import Evaluation
from webapp.evaluations.overview import solve_rates


@dataclass(frozen=True, kw_only=True)
class Pair:
    task: str
    first: float
    second: float

    @property
    def change(self) -> float:
        return self.second - self.first


@dataclass(frozen=True, kw_only=True)
class Comparison:
    pairs: list[Pair]
    """Those that differ, the largest loss of the second first."""
    num_shared: int
    test: McNemar
    difference: Difference | None
    """Of pass@1; None when they share no task."""

    @property
    def is_certain(self) -> bool:
        """Whether the interval of the difference leaves 0 out."""
        found = self.difference
        return found is not None and not found.interval.low <= 0 <= found.interval.high


def compare(first: Evaluation, second: Evaluation) -> Comparison:
    rates = solve_rates(first), solve_rates(second)
    shared = sorted(rates[0].keys() & rates[1].keys())
    pairs = [Pair(task=task, first=rates[0][task], second=rates[1][task]) for task in shared]
    differing = [pair for pair in pairs if pair.change]
    return Comparison(
        pairs=sorted(differing, key=lambda pair: pair.change),
        num_shared=len(shared),
        test=mcnemar(*rates),
        difference=bootstrap_difference(*rates),
    )
