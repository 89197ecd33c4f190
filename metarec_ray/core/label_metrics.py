"""Metrics of predicted labels: errors, correlations, likelihood, calibration.

Knows predictions and true labels; does not know what predicted them. Ranked lists are judged by
`core.metrics`.

Axes: T tasks, N entries of a padded task, M entries of all tasks in one row. `mask` is False on
padding. Metrics of tasks return one value for each task [T], NaN where it is not defined; the mean
over tasks is the caller's.
"""

import torch
from torch import Tensor

BINS = 10
_STEPS = 50  # of Newton's method in two dimensions: it converges in ten or not at all
_SEPARATED = 1e3  # a slope beyond it: the labels are separated, there is no finite optimum


def squared_error(predicted: Tensor, label: Tensor, mask: Tensor) -> Tensor:
    """Return the mean squared error of each task."""
    return _mean((predicted - label) ** 2, mask)


def rmse(predicted: Tensor, label: Tensor, mask: Tensor) -> Tensor:
    """Return the root of the mean squared error of each task."""
    return squared_error(predicted, label, mask).sqrt()


def mae(predicted: Tensor, label: Tensor, mask: Tensor) -> Tensor:
    """Return the mean absolute error of each task."""
    return _mean((predicted - label).abs(), mask)


def pearson(predicted: Tensor, label: Tensor, mask: Tensor) -> Tensor:
    """Return the linear correlation of each task.

    0 for constant predictions, NaN for constant labels.
    """
    x, y = _centred(predicted, mask), _centred(label, mask)
    found = (x * y).sum(1) / (x.square().sum(1) * y.square().sum(1)).sqrt()
    found = torch.where(_constant(predicted, mask), 0.0, found.clamp(-1, 1))
    return torch.where(_constant(label, mask), torch.nan, found).to(predicted.dtype)


def spearman(predicted: Tensor, label: Tensor, mask: Tensor) -> Tensor:
    """Return the correlation of ranks, ties at their mean rank; 0 and NaN as in `pearson`."""
    return pearson(average_ranks(predicted, mask), average_ranks(label, mask), mask)


def auc(scores: Tensor, positive: Tensor, mask: Tensor) -> Tensor:
    """Return the share of pairs in which the positive scores above the negative; ties count half.

    [Mann & Whitney, 1947]. NaN for a task without a positive or without a negative.

    Args:
        scores: [T, N]; infinities are ordered.
        positive: bool [T, N].
        mask: bool [T, N].

    """
    positive, negative = positive & mask, ~positive & mask
    found, others = positive.sum(1), negative.sum(1)
    wins = torch.zeros(len(scores), dtype=torch.float64)
    # Positives are few: comparing each with all negatives is cheaper than a sort.
    most = int(found.max())
    places = positive.to(torch.int8).topk(most, 1).indices
    negatives = torch.where(negative, scores, torch.nan)
    for place in range(most):
        score = scores.gather(1, places[:, place : place + 1])
        below = (negatives < score).sum(1, dtype=torch.int32)
        level = (negatives == score).sum(1, dtype=torch.int32)
        wins += torch.where(place < found, below + level / 2, 0.0)
    return torch.where(found * others > 0, wins / (found * others), torch.nan).to(scores.dtype)


def log_loss(logit: Tensor, label: Tensor, mask: Tensor) -> Tensor:
    """Return the mean negative log-likelihood, in nats, of labels 0 and 1 given log-odds."""
    losses = torch.nn.functional.binary_cross_entropy_with_logits(logit, label, reduction="none")
    return _mean(losses, mask)


def calibration_error(predicted: Tensor, label: Tensor, *, bins: int = BINS) -> float:
    """Return the mean distance between the mean label and the mean prediction of a bin, in labels.

    The expected calibration error [Naeini et al., 2015] over bins of equal mass; predictions that
    are equal share a bin. `predicted` and `label` are [M]: ratings, or probabilities and clicks.
    """
    predicted, label = predicted.double(), label.double()
    of_bin = torch.bucketize(predicted, _quantiles(predicted, bins))
    gap = torch.zeros(bins, dtype=torch.float64).index_add(0, of_bin, label - predicted)
    return (gap.abs().sum() / len(predicted)).item()


def calibration_slope(predicted: Tensor, label: Tensor) -> float:
    """Return the slope of labels on predictions by least squares; NaN for constant predictions.

    1 is calibrated; below 1, predictions vary too much. Both are [M].
    """
    x = predicted.double() - predicted.double().mean()
    spread = x.square().sum()
    if predicted.max() == predicted.min():
        return float("nan")
    return ((x * label.double()).sum() / spread).item()


def logistic_slope(logit: Tensor, label: Tensor) -> float:
    """Return the slope of clicks on predicted log-odds by maximum likelihood [Cox, 1958].

    1 is calibrated; below 1, predictions are too confident. NaN where there is no finite optimum:
    constant predictions, constant labels, or predictions that separate them. Both are [M].
    """
    x = torch.stack([logit.double(), torch.ones(len(logit), dtype=torch.float64)], 1)
    weights = torch.zeros(2, dtype=torch.float64)
    if logit.max() == logit.min() or label.max() == label.min():
        return float("nan")
    for _ in range(_STEPS):
        probability = torch.sigmoid(x @ weights)
        curvature = x.T @ (x * (probability * (1 - probability)).unsqueeze(1))
        step, failed = torch.linalg.solve_ex(curvature, x.T @ (label.double() - probability))
        if failed or not bool(step.isfinite().all()) or bool(weights.abs().max() > _SEPARATED):
            return float("nan")
        weights = weights + step
    return weights[0].item()


def average_ranks(values: Tensor, mask: Tensor) -> Tensor:
    """Return the ascending rank, from 1, of each entry in its task; ties get their mean rank.

    Ranks of padding are arbitrary.
    """
    largest = torch.finfo(values.dtype).max
    held = values.nan_to_num(nan=largest, posinf=largest, neginf=-largest)
    ordered = held.masked_fill(~mask, torch.inf).sort(1).values
    below = torch.searchsorted(ordered, held.contiguous())
    upto = torch.searchsorted(ordered, held.contiguous(), right=True)
    return (below + upto + 1).to(values.dtype) / 2


def _quantiles(values: Tensor, bins: int) -> Tensor:
    """Return the inner edges [bins - 1] of bins of equal mass, interpolated between neighbours.

    As `torch.quantile`, which takes at most 2^24 values.
    """
    place = torch.linspace(0, 1, bins + 1, dtype=torch.float64)[1:-1] * (len(values) - 1)
    below, ordered = place.long(), values.sort().values
    above = (below + 1).clamp(max=len(values) - 1)
    return torch.lerp(ordered[below], ordered[above], place - below)


def _mean(values: Tensor, mask: Tensor) -> Tensor:
    return torch.where(mask, values, torch.zeros_like(values)).sum(1) / mask.sum(1).clamp(min=1)


def _centred(values: Tensor, mask: Tensor) -> Tensor:
    values = values.double()
    return torch.where(mask, values - _mean(values, mask).unsqueeze(1), 0.0)


def _constant(values: Tensor, mask: Tensor) -> Tensor:
    highest = values.masked_fill(~mask, -torch.inf).amax(1)
    return highest <= values.masked_fill(~mask, torch.inf).amin(1)
