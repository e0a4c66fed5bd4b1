"""The same answers under other judges, rubrics, readouts or thresholds: `emeval.rejudge`."""

from emeval.rejudging.execution import rejudge
from emeval.rejudging.plans import plan

__all__ = ["plan", "rejudge"]
