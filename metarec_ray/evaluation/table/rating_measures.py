"""Metrics of predicted labels: one value per task and metric, for a method and condition.

Knows predictions and the labels of a query; does not know what predicted. `gain` is how much
adapting lowers the squared error.

Axes: T tasks, Q ratings of a padded query.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from metarec_ray.core import label_metrics, metrics
from metarec_ray.data.settings import Feedback
from metarec_ray.evaluation.table.ranking_measures import TIES

DEPTHS, SHORT = (1, 3, 5, 10), 5  # of the lists of a query's rated items


class Asked(NamedTuple):
    """The true labels of queries, and their scale.

    Attributes:
        label: float [T, Q].
        mask: bool [T, Q], False on padding.
        feedback: explicit or binary.
        scale: lowest and highest label of training; explicit predictions are clipped to it. None
            to leave predictions and labels as they are.
        positive_min: smallest label of a positive, for the AUC.

    """

    label: Tensor
    mask: Tensor
    feedback: Feedback = "explicit"
    scale: tuple[float, float] | None = None
    positive_min: float = 4.0

    def on_scale(self, scores: Tensor) -> Tensor:
        """Return predicted labels: ratings on the scale, or probabilities of a click."""
        if self.feedback == "binary":
            return torch.sigmoid(scores)
        return scores if self.scale is None else scores.clamp(*self.scale)

    def positive(self) -> Tensor:
        """Return bool [T, Q]: positive labels."""
        return self.label >= (self.positive_min if self.feedback == "explicit" else 0.5)


class Worth(NamedTuple):
    """Metrics of predictions; the fields are those of `ranking_measures.Measured`."""

    weight: Tensor
    values: dict[str, Tensor]
    facts: dict[str, float]


def measure_ratings(
    predicted: Tensor, asked: Asked, *, ties: int, prior: Tensor | None = None
) -> Worth:
    """Return the metrics of predicted query labels.

    Args:
        predicted: [T, Q], finite where `asked` has labels, on the scale of the labels (explicit)
            or in log-odds (binary).
        asked: the labels.
        ties: seed that breaks ties of the lists.
        prior: predictions after an empty support; None leaves the adaptation gain out.

    """
    label, mask = asked.label, asked.mask
    said = asked.on_scale(predicted)
    # Probabilities that round to 0 or 1 are still ordered by their log-odds.
    ranked = said if asked.feedback == "explicit" else predicted
    values = _lists(ranked, asked, ties) | {
        "squared_error": label_metrics.squared_error(said, label, mask),
        "mae": label_metrics.mae(said, label, mask),
        "pearson": label_metrics.pearson(said, label, mask),
        "spearman": label_metrics.spearman(said, label, mask),
        "auc": label_metrics.auc(ranked, asked.positive(), mask),
    }
    if prior is not None:
        before = label_metrics.squared_error(asked.on_scale(prior), label, mask)
        values["gain"] = before - values["squared_error"]
    slope = label_metrics.calibration_slope
    if asked.feedback == "binary":
        values["log_loss"] = label_metrics.log_loss(predicted, label, mask)
        slope = label_metrics.logistic_slope
    facts = {
        "calibration_error": label_metrics.calibration_error(said[mask], label[mask]),
        "calibration_slope": slope(ranked[mask], label[mask]),
    }
    return Worth(mask.sum(1).to(torch.float32), values, facts)


def _lists(predicted: Tensor, asked: Asked, ties: int) -> dict[str, Tensor]:
    """Return the NDCG@k of tasks with a positive gain and more than max(k, 5) ratings; else NaN.

    k = 10 is left out if no task has enough.
    """
    gains = torch.where(asked.mask, metrics.graded(asked.label, asked.scale), 0.0)
    found: dict[str, Tensor] = {}
    for depth in DEPTHS:
        usable = (asked.mask.sum(1) > max(depth, SHORT)) & (gains.sum(1) > 0)
        values = torch.full((len(usable),), torch.nan)
        if usable.any():
            ranked = metrics.rank(
                predicted[usable],
                gains[usable],
                depth=depth,
                generator=torch.Generator().manual_seed(TIES + ties),
                candidates=asked.mask[usable],
            )
            values = values.masked_scatter(usable, metrics.ndcg(ranked, depth))
        elif depth > SHORT:
            continue
        found[f"ndcg@{depth}"] = values
    return found
