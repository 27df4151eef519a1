"""What each way to choose among an evaluation's rollouts is worth, from the rows, kept until an event or a score changes it."""

from dataclasses import dataclass

from django.core.cache import cache

from trainer.methods import Method, methods
from trainer.scores import Verified, worth
from trainer.summary import PASS, Summary
from webapp.assessments.scores import num_scores, scores_of
from webapp.evaluations.models import Evaluation
from webapp.evaluations.overview import KEPT_S, rollout_rows


@dataclass(frozen=True, kw_only=True)
class Selection:
    methods: list[Method]
    """Random, shortest patch and vote, then the verifiers; empty while nothing has a reward."""
    verified: dict[str, Verified]
    """By verifier."""

    @property
    def max_k(self) -> int:
        """The k at which methods are compared."""
        return len(self.methods[0].curve) if self.methods else 0

    @property
    def rows(self) -> list[tuple[Method, Verified | None]]:
        return [(method, self.verified.get(method.name)) for method in self.methods]


def selection_of(evaluation: Evaluation) -> Selection:
    """Of the rollouts that ended and count."""
    key = f"evaluation-selection-{evaluation.pk}-{evaluation.last_seq}-{num_scores(evaluation)}"
    found: Selection | None = cache.get(key)
    if found is None:
        found = _select(evaluation)
        cache.set(key, found, KEPT_S)
    return found


def _select(evaluation: Evaluation) -> Selection:
    rows, scores = rollout_rows(evaluation), scores_of(evaluation)
    return Selection(
        methods=methods(rows, scores),
        verified={name: worth(name, known, rows) for name, known in scores.items()},
    )


def curves_of(summary: Summary, chosen: Selection) -> dict[str, list[float]]:
    """pass@k, and best@k by each method, for k = 1, 2, ..."""
    passes = {PASS: summary.curves[PASS]} if summary.curves else {}
    return passes | {method.name: method.curve for method in chosen.methods}
