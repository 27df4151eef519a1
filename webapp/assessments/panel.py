"""The part of an evaluation's page that chooses among its rollouts: what there is, what is under way, what may be begun."""

from typing import Any

from django.http import HttpRequest

from webapp.assessments import lifecycle
from webapp.assessments.selection import Selection
from webapp.evaluations.lifecycle import may_change
from webapp.evaluations.models import Evaluation
from webapp.verifiers.models import Verifier


def panel(request: HttpRequest, evaluation: Evaluation, chosen: Selection) -> dict[str, Any]:
    """The context of `assessments/_panel.html`."""
    latest = evaluation.assessments.select_related("verifier", "evaluation").first()
    return {
        "evaluation": evaluation,
        "selection": chosen,
        "assessment": latest,
        "assessment_waits": lifecycle.waiting_for(latest) if latest else "",
        "verifiers": list(Verifier.objects.exclude(path="")),
        "may_change": may_change(request.user, evaluation),
    }
