"""What each way to choose among an evaluation's rollouts is worth."""

from dataclasses import dataclass

from trainer.evaluations.methods import Method, methods
from trainer.evaluations.scores import Quality, worth
from trainer.evaluations.summary import PASS, Summary
from webapp.assessments.results import results_of, state_of_results
from webapp.evaluations.kept import Kept
from webapp.evaluations.models import Evaluation
from webapp.evaluations.overview import SUMMARY, rollout_rows


@dataclass(frozen=True, kw_only=True)
class Selection:
    methods: list[Method]
    """Random, shortest patch and vote, then verifiers and hybrids; empty while nothing has a reward."""
    verified: dict[str, Quality]
    """By verifier."""

    @property
    def max_k(self) -> int:
        """The k at which methods are compared."""
        return len(self.methods[0].curve) if self.methods else 0

    @property
    def rows(self) -> list[tuple[Method, Quality | None]]:
        return [(method, self.verified.get(method.name)) for method in self.methods]


def selection_of(evaluation: Evaluation) -> Selection:
    """Of the rollouts that count; nothing is chosen, nor compared, while the evaluation goes on."""
    if not evaluation.is_ended:
        return Selection(methods=[], verified={})
    return SELECTION.of(evaluation)


def _select(evaluation: Evaluation) -> Selection:
    rows, told = rollout_rows(evaluation), results_of(evaluation)
    return Selection(
        methods=methods(rows, told.scores, told.counts),
        verified={name: worth(known, rows) for name, known in told.scores.items()}
        | {name: Quality(len(known), None) for name, known in told.counts.items()},
    )


def _state(evaluation: Evaluation) -> str:
    return f"{evaluation.last_seq}, {state_of_results(evaluation)} results"


SELECTION = Kept("selection", Selection, state=_state, work_out=_select)


def work_out_numbers(evaluation: Evaluation) -> None:
    """All that the evaluation's page shows, for whoever is about to end it: so the page need not."""
    SUMMARY.bring_up_to_date(evaluation)
    SELECTION.bring_up_to_date(evaluation)


def curves_of(summary: Summary, chosen: Selection) -> dict[str, list[float]]:
    """pass@k, and best@k by each method, for k = 1, 2, ...; the simplest rules alone while it goes on."""
    if not chosen.methods:
        return summary.curves
    passes = {PASS: summary.curves[PASS]} if summary.curves else {}
    return passes | {method.name: method.curve for method in chosen.methods}
