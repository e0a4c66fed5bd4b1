"""What Inspect finds in emeval (entry point `inspect_ai`): evaluations, scorer, model provider."""

from emeval.judging.scorer import judges_scorer
from emeval.models.local import local
from emeval.solvers import ask
from emeval.tasks import register

evaluations = register()

__all__ = ["ask", "evaluations", "judges_scorer", "local"]
