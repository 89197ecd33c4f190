"""What predicted labels are worth: a value an entity of every metric, for one method and condition.

Knows predictions and the labels of a query; does not know what predicted. `gain` is by how much
adapting lowers the squared error.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from metarec_ray.core import label_metrics, metrics
from metarec_ray.data.settings import Feedback
from metarec_ray.evaluation.measure import TIES, Condition, Measured

DEPTHS = (1, 3, 5)  # of the lists of a query's rated items


def measure_ratings(
    predicted: Tensor,
    label: Tensor,
    mask: Tensor,
    *,
    method: str,
    kind: str,
    condition: Condition,
    entity: list[str],
    seed: int,
    ties: int,
    prior: Tensor | None = None,
    feedback: Feedback = "explicit",
    scale: tuple[float, float] | None = None,
    positive_min: float = 4.0,
    facts: Mapping[str, float] | None = None,
) -> Measured:
    """Return what predictions of the query labels are worth; all tensors are [T, Q].

    Args:
        predicted: on the scale of the labels (explicit) or in log-odds (binary).
        label: what really was said.
        mask: False on padding.
        method: as in `Measured`, like the next five.
        kind: floor, rival, learner or optimum.
        condition: of the row.
        entity: names [T].
        seed: of the fit.
        facts: numbers of the whole that are known already.
        prior: predictions after an empty support; None leaves the adaptation gain out.
        ties: seed that breaks ties of the lists.
        feedback: explicit or binary.
        scale: explicit predictions are clipped to it.
        positive_min: smallest label of a positive, for the AUC.

    """

    def on_scale(scores: Tensor) -> Tensor:
        if feedback == "binary":
            return torch.sigmoid(scores)
        return scores if scale is None else scores.clamp(*scale)

    chance = on_scale(predicted)
    predicted = chance if feedback == "explicit" else predicted
    positive = label >= (positive_min if feedback == "explicit" else 0.5)
    values = _lists(predicted, label, mask, ties) | {
        "squared_error": label_metrics.squared_error(chance, label, mask),
        "mae": label_metrics.mae(chance, label, mask),
        "pearson": label_metrics.pearson(chance, label, mask),
        "spearman": label_metrics.spearman(chance, label, mask),
        "auc": label_metrics.auc(predicted, positive, mask),
    }
    if prior is not None:
        before = label_metrics.squared_error(on_scale(prior), label, mask)
        values["gain"] = before - values["squared_error"]
    if feedback == "binary":
        values["log_loss"] = label_metrics.log_loss(predicted, label, mask)
    slope = (
        label_metrics.calibration_slope if feedback == "explicit" else label_metrics.logistic_slope
    )
    calibration = {
        "calibration_error": label_metrics.calibration_error(chance[mask], label[mask]),
        "calibration_slope": slope(predicted[mask], label[mask]),
    }
    rows = mask.sum(1).to(torch.float32)
    return Measured(
        method, kind, seed, condition, entity, rows, values, {**(facts or {}), **calibration}
    )


def _lists(predicted: Tensor, label: Tensor, mask: Tensor, ties: int) -> dict[str, Tensor]:
    """Return the NDCG of each task that has more rated items than places and a positive gain."""
    gains = torch.where(mask, metrics.graded(label), 0.0)
    usable = (mask.sum(1) > max(DEPTHS)) & (gains.sum(1) > 0)
    usable = usable if usable.any() else torch.ones_like(usable)
    ranked = metrics.rank(
        predicted[usable],
        gains[usable],
        depth=max(DEPTHS),
        generator=torch.Generator().manual_seed(TIES + ties),
        candidates=mask[usable],
    )
    nothing = torch.full((len(mask),), torch.nan)
    return {
        f"ndcg@{depth}": nothing.masked_scatter(usable, metrics.ndcg(ranked, depth))
        for depth in DEPTHS
    }
