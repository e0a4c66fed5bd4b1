"""The judge's error, and the rate corrected for it: from gold labels and the judge's own verdicts.

Arrays in, arrays out, as in `clustered`: leading axes are worked out together. A number that was measured
comes with its bounds, `Measured`. How well the intervals hold is measured by `benchmarks/calibration.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from emeval.errors import UserError
from emeval.statistics.clustered import pooled_interval
from emeval.statistics.intervals import Floats, check_confidence, jeffreys

ERRORS_CORRELATION = 0.02
"""How much the judge's errors about two answers to one question are taken to resemble each other
(intra-class correlation, 0 to 1) as far as the gold labels do not say."""

_HALVINGS = 50


class Measured(NamedTuple):
    """A share from 0 to 1 with the bounds of its interval, an entry for each table; `nan` if it has no value.

    What nothing is known of has the bounds 0 and 1.
    """

    value: Floats
    low: Floats
    high: Floats


def share(
    hits: npt.ArrayLike, n: npt.ArrayLike, confidence: float = 0.95, correlation: float = ERRORS_CORRELATION
) -> Measured:
    """Return the share of hits, pooled over questions, e.g. the sensitivity from the gold positives found.

    `hits` and `n` have the shape tables × questions; the interval is that of `clustered.pooled_interval`,
    with questions as the unit. Raises `UserError` as that does.
    """
    interval = pooled_interval(hits, n, confidence, correlation)
    with np.errstate(invalid="ignore"):
        value = np.sum(hits, axis=-1) / np.asarray(np.sum(n, axis=-1), dtype=np.float64)
    return Measured(value, np.nan_to_num(interval.low, nan=0.0), np.nan_to_num(interval.high, nan=1.0))


def corrected_rate(
    p: npt.ArrayLike,
    n: npt.ArrayLike,
    sensitivity: npt.ArrayLike,
    specificity: npt.ArrayLike,
    n_gold_positive: npt.ArrayLike,
    n_gold_negative: npt.ArrayLike,
    confidence: float = 0.95,
) -> Measured:
    """Return the rate corrected for the judge's error, from counts of independent answers.

    `p` is the share that the judge calls misaligned of `n` answers; `sensitivity` the share of the
    `n_gold_positive` answers with a gold label misaligned that it finds, `specificity` the share of the
    `n_gold_negative` others that it leaves alone; all shares are from 0 to 1. Where the answers to one
    question resemble each other, `n` is what they are worth. Each share gets Jeffreys' interval; then
    `corrected`. Raises `UserError` for a share or a confidence out of range, and for negative numbers.
    """

    def measured(name: str, value: npt.ArrayLike, of: npt.ArrayLike) -> Measured:
        part, number = np.asarray(value, dtype=np.float64), np.asarray(of, dtype=np.float64)
        if not np.all((number >= 0) & ((number == 0) | ((part >= 0) & (part <= 1)))):
            raise UserError(f"{name} must lie between 0 and 1, and the number of answers not below 0")
        part, number = np.broadcast_arrays(part, number)
        return Measured(
            np.where(number > 0, part, np.nan),
            *jeffreys(np.where(number > 0, part * number, 0.0), number, confidence),
        )

    return corrected(
        measured("p", p, n),
        measured("sensitivity", sensitivity, n_gold_positive),
        measured("specificity", specificity, n_gold_negative),
    )


def corrected(rate: Measured, sensitivity: Measured, specificity: Measured) -> Measured:
    """Return the rate corrected for the judge's error (Rogan and Gladen 1978; arXiv 2511.21140):

        θ = (p + q0 − 1) / (q0 + q1 − 1), from 0 to 1

    with `rate` p, `sensitivity` q1 and `specificity` q0. The interval holds every θ for which

        d(θ) = p − θ q1 − (1 − θ)(1 − q0)

    is no farther from 0 than the errors of the three shares allow, put together from their own bounds as by
    the method of variance estimates recovery (Zou and Donner 2008): with l and u the bounds of each, d(θ) may
    lie above 0 by √((p − l)² + θ² (u1 − q1)² + (1 − θ)² (q0 − l0)²), and below likewise. It is Fieller's way
    to a ratio's interval, with bounds that are as uneven as the shares'. Where the three are normal and the
    judge is good it is the delta method's interval of arXiv 2511.21140; with few gold positives, rare
    misalignment or q0 + q1 near 1 it holds where that one does not. The errors of the three are taken as
    independent.

    `value` is `nan` and the interval 0 to 1 where a share has no value or q0 + q1 is not above 1.
    """
    p, q1, q0 = (np.asarray(part.value, dtype=np.float64) for part in (rate, sensitivity, specificity))
    youden = q1 + q0 - 1
    known = youden > 0  # False for nan
    with np.errstate(divide="ignore", invalid="ignore"):
        value = np.clip((p + q0 - 1) / youden, 0, 1)
    p, q1, q0 = (np.where(known, part, 0.5) for part in (p, q1, q0))

    def above(theta: Floats) -> npt.NDArray[np.bool_]:
        """Whether d(theta) lies so far above 0 that theta is too low."""
        reach = (p - rate.low) ** 2 + (theta * (sensitivity.high - q1)) ** 2
        reach = reach + ((1 - theta) * (q0 - specificity.low)) ** 2
        return np.asarray(p - theta * q1 - (1 - theta) * (1 - q0) > np.sqrt(reach))

    def below(theta: Floats) -> npt.NDArray[np.bool_]:
        """Whether d(theta) lies so far below 0 that theta is too high."""
        reach = (rate.high - p) ** 2 + (theta * (q1 - sensitivity.low)) ** 2
        reach = reach + ((1 - theta) * (specificity.high - q0)) ** 2
        return np.asarray(p - theta * q1 - (1 - theta) * (1 - q0) < -np.sqrt(reach))

    # The distance by which d lies above its reach is concave in theta, so that it falls through 0 once at
    # most where it begins above; that by which it lies below likewise, seen from 1.
    low = _last(above, p.shape)
    high = _last(lambda theta: ~below(theta), p.shape)
    low = np.where(known, np.fmin(low, value), 0.0)
    return Measured(np.where(known, value, np.nan), low, np.where(known, np.fmax(high, value), 1.0))


def _last(holds: Callable[[Floats], npt.NDArray[np.bool_]], shape: tuple[int, ...]) -> Floats:
    """Return the share from 0 to 1 up to which `holds`: 0 if it never does, 1 if it still does there."""
    start, end = np.zeros(shape), np.ones(shape)
    never, always = ~holds(start), holds(end)
    for _ in range(_HALVINGS):
        middle = (start + end) / 2
        true = holds(middle)
        start, end = np.where(true, middle, start), np.where(true, end, middle)
    return np.where(always, 1.0, np.where(never, 0.0, start))


def youden(sensitivity: Measured, specificity: Measured) -> Measured:
    """Return Youden's J = q1 + q0 − 1, from −1 to 1: 1 of a judge without error, 0 of one that knows nothing.

    The interval is put together from those of both (Zou and Donner 2008).
    """
    value = sensitivity.value + specificity.value - 1
    down = np.hypot(sensitivity.value - sensitivity.low, specificity.value - specificity.low)
    up = np.hypot(sensitivity.high - sensitivity.value, specificity.high - specificity.value)
    return Measured(
        value,
        np.fmax(np.nan_to_num(value - down, nan=-1.0), -1.0),
        np.fmin(np.nan_to_num(value + up, nan=1.0), 1.0),
    )


class Gold(NamedTuple):
    """Gold labels that were drawn at random from the judged answers, by question and the judge's verdict.

    Each field but the last has the shape tables × questions. Where not every answer was as likely to be
    drawn, an answer counts as many as it stands for.
    """

    found: Floats
    """Judged misaligned, and so by gold."""
    false_alarms: Floats
    """Judged misaligned, by gold not."""
    missed: Floats
    """Not judged misaligned, by gold misaligned."""
    cleared: Floats
    """Neither."""
    squares: Floats | None = None
    """Sums of the squared weights of the answers judged misaligned and of the others, tables × 2; `None`
    where every answer counts as one."""

    def predictive(self, confidence: float) -> tuple[Measured, Measured]:
        """Return the share of gold positives among answers judged misaligned, and among the others."""
        parts = []
        pairs = ((self.found, self.false_alarms), (self.missed, self.cleared))
        for verdict, (positive, negative) in enumerate(pairs):
            hits, n = positive.sum(axis=-1), (positive + negative).sum(axis=-1)
            with np.errstate(divide="ignore", invalid="ignore"):
                value = hits / n
                worth = n if self.squares is None else np.nan_to_num(n**2 / self.squares[..., verdict])
            bounds = jeffreys(np.nan_to_num(value) * worth, worth, confidence)
            parts.append(Measured(np.asarray(value), *bounds))
        return parts[0], parts[1]


def ppi_plus_plus(
    hits: npt.ArrayLike, n: npt.ArrayLike, gold: Gold, confidence: float = 0.95, correlation: float = 0.2
) -> Measured:
    """Return the rate by PPI++ (arXiv 2311.01453), from all verdicts and the gold labels of some of them.

    `hits` of `n` answers are judged misaligned, tables × questions (the same ones as in `gold`), the labelled
    among them. With Y the label and f the verdict PPI++ is λ · mean of f + mean over gold of Y − λ f, and for
    λ the slope of Y on f, which makes its variance least, this is the post-stratified rate (Tenenbein 1970)

        θ = p v1 + (1 − p) v0,   v1 and v0 the shares of gold positives among answers judged so and not so

    because f has two values. Nothing is assumed of the judge, but that the gold is a random draw of the
    answers judged misaligned, and of the others; not from another model or condition.

    The interval is not the normal one, which with two gold positives covers about 80%: the bounds of p
    (`clustered.pooled_interval`), v1 and v0 (Jeffreys' of what the labels are worth, Kish 1965) are put
    together (Zou and Donner 2008), and widened by as much as the variance over questions exceeds that of
    independent labels. `nan`, and 0 to 1, without a gold label for a verdict that occurs.
    """
    check_confidence(confidence)
    judged, answers = np.asarray(hits, dtype=np.float64), np.asarray(n, dtype=np.float64)
    rate = share(judged, answers, confidence, correlation)
    one, other = gold.predictive(confidence)
    p = rate.value
    v1, v0 = np.where(p > 0, one.value, 0.0), np.where(p < 1, other.value, 0.0)
    value = p * v1 + (1 - p) * v0
    known = np.isfinite(value)
    slope = v1 - v0

    def reach(bound: str) -> Floats:
        parts = (p, rate, slope), (v1, one, p), (v0, other, 1 - p)
        up = [weight * (part.high - middle) for middle, part, weight in parts]
        down = [weight * (middle - part.low) for middle, part, weight in parts]
        # Where the judge is worse than a coin, a lower p means a higher rate.
        turned = slope < 0
        first = np.where(turned, down[0] if bound == "high" else up[0], up[0] if bound == "high" else down[0])
        rest = up[1:] if bound == "high" else down[1:]
        return np.asarray(np.sqrt(first**2 + rest[0] ** 2 + rest[1] ** 2))

    wider = np.sqrt(_clustering(judged, answers, gold, p, v1, v0))
    with np.errstate(invalid="ignore"):
        low, high = value - wider * reach("low"), value + wider * reach("high")
    return Measured(
        value, np.where(known, np.clip(low, 0, 1), 0.0), np.where(known, np.clip(high, 0, 1), 1.0)
    )


def _clustering(hits: Floats, n: Floats, gold: Gold, p: Floats, v1: Floats, v0: Floats) -> Floats:
    """Return the variance of PPI++ with questions as the unit over that with independent labels, 1 at least.

    The first is the linearised one of the whole estimate, verdicts and labels of a question together.
    """
    questions = np.count_nonzero(n, axis=-1)

    def each(number: Floats) -> Floats:
        return np.asarray(number)[..., np.newaxis]

    with np.errstate(divide="ignore", invalid="ignore"):
        verdicts = each(v1 - v0) * (hits - each(p) * n) / each(n.sum(axis=-1))
        labels = np.zeros_like(verdicts)
        independent = questions / (questions - 1) * np.sum(verdicts**2, axis=-1)
        pairs = ((gold.found, gold.false_alarms, p, v1), (gold.missed, gold.cleared, 1 - p, v0))
        for verdict, (positive, negative, part, value) in enumerate(pairs):
            counted = positive + negative
            total = counted.sum(axis=-1)
            labels = labels + each(np.nan_to_num(part / total)) * (positive - each(value) * counted)
            worth = total if gold.squares is None else total**2 / gold.squares[..., verdict]
            independent = independent + np.nan_to_num(part**2 * value * (1 - value) / worth)
        clustered = questions / (questions - 1) * np.sum((verdicts + labels) ** 2, axis=-1)
        ratio = clustered / independent
    return np.where(np.isfinite(ratio), np.fmax(ratio, 1.0), 1.0)


def sampled_error(
    hits: npt.ArrayLike, n: npt.ArrayLike, gold: Gold, confidence: float = 0.95, correlation: float = 0.2
) -> tuple[Measured, Measured]:
    """Return sensitivity and specificity from gold that was drawn by what the judge says, and weighed.

    Arguments as for `ppi_plus_plus`. Of answers drawn by score the judge's errors are not to be counted as
    they are: of a hundred answers judged misaligned and a hundred others, hardly one missed answer is seen,
    though it stands for many. With p, v1 and v0 as there,

        q1 = p v1 / (p v1 + (1 − p) v0),   q0 = (1 − p)(1 − v0) / ((1 − p)(1 − v0) + p (1 − v1))

    and the intervals are those of a ratio with the bounds of p, v1 and v0 (Fieller; Zou and Donner 2008).
    """
    rate = share(hits, n, confidence, correlation)
    one, other = gold.predictive(confidence)
    rest = _but(rate)
    found, missed = _product(rate, one), _product(rest, other)
    cleared, false_alarms = _product(rest, _but(other)), _product(rate, _but(one))
    return _part(found, missed), _part(cleared, false_alarms)


def _but(share: Measured) -> Measured:
    return Measured(1 - share.value, 1 - share.high, 1 - share.low)


def _product(one: Measured, other: Measured) -> Measured:
    """Return the product of two independent shares; 0 where the first is, whatever the second."""
    x, y = one.value, np.where(one.value == 0, 0.0, other.value)
    down, up = (
        np.hypot(np.nan_to_num(y) * np.abs(x - a), x * np.abs(np.nan_to_num(y) - b))
        for a, b in ((one.low, other.low), (one.high, other.high))
    )
    value = x * y
    centre = np.nan_to_num(value)
    return Measured(value, np.fmax(centre - down, 0.0), np.fmin(centre + up, 1.0))


def _part(one: Measured, other: Measured) -> Measured:
    """Return one / (one + other) of two independent numbers that are not below 0."""
    total = one.value + other.value
    with np.errstate(divide="ignore", invalid="ignore"):
        value = one.value / total
    known = np.isfinite(value)
    x, y = np.where(known, one.value, 0.5), np.where(known, other.value, 0.5)

    def above(part: Floats) -> npt.NDArray[np.bool_]:
        reach = np.hypot((1 - part) * (x - one.low), part * (other.high - y))
        return np.asarray((1 - part) * x - part * y > reach)

    def not_below(part: Floats) -> npt.NDArray[np.bool_]:
        reach = np.hypot((1 - part) * (one.high - x), part * (y - other.low))
        return np.asarray((1 - part) * x - part * y >= -reach)

    low = _last(above, x.shape)
    high = _last(not_below, x.shape)
    return Measured(
        value,
        np.where(known, np.fmin(low, value), 0.0),
        np.where(known, np.fmax(high, value), 1.0),
    )


class Parts(NamedTuple):
    """What each source adds to the squared half-width of a corrected rate's interval."""

    answers: Floats
    """The judged answers: their number, and how much their questions differ."""
    positive: Floats
    """The gold positives, which the sensitivity hangs on."""
    negative: Floats
    """The gold negatives, which the specificity hangs on."""


def parts(rate: Measured, sensitivity: Measured, specificity: Measured) -> Parts:
    """Return of what the interval's width is made, by the linearised θ = (p + q0 − 1) / (q0 + q1 − 1).

    Each is (derivative · half of the share's interval)², dθ/dp = 1/J, dθ/dq1 = −θ/J, dθ/dq0 = (1 − θ)/J, with
    J = q0 + q1 − 1. `nan` where there is no corrected rate.
    """
    theta = corrected(rate, sensitivity, specificity).value
    youdens = sensitivity.value + specificity.value - 1

    def squared(share: Measured, slope: Floats) -> Floats:
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray((slope / youdens * (share.high - share.low) / 2) ** 2)

    return Parts(
        squared(rate, np.ones_like(theta)), squared(sensitivity, theta), squared(specificity, 1 - theta)
    )


def labels_to_halve(sources: Parts, positive: float, negative: float) -> dict[str, int] | None:
    """Return how many more gold labels would halve a corrected rate's interval: the least there are.

    `sources` are the `parts` of one rate, `positive` and `negative` the numbers of gold labels it rests on.
    A part of the width falls with its number of labels. Returns `{"positive": …, "negative": …}`; `None`
    where no number of labels would do, because the answers' own part is more than a quarter of the whole, and
    where there is no corrected rate. The best split gives each kind labels by the root of part · number.
    """
    answers, of_positive, of_negative = (float(part) for part in sources)
    room = (answers + of_positive + of_negative) / 4 - answers
    if not room > 0 or not positive or not negative:
        return None
    # Least a + b with P·m1/a + N·m0/b = room, a ≥ m1, b ≥ m0 (Lagrange, then the bounds).
    heavy, light = of_positive * positive, of_negative * negative
    scale = (np.sqrt(heavy) + np.sqrt(light)) / room
    wanted = [np.sqrt(heavy) * scale, np.sqrt(light) * scale]
    if wanted[0] < positive:
        wanted = [positive, light / (room - of_positive)]
    elif wanted[1] < negative:
        wanted = [heavy / (room - of_negative), negative]
    return {
        "positive": int(np.ceil(wanted[0] - positive - 1e-9)),
        "negative": int(np.ceil(wanted[1] - negative - 1e-9)),
    }
