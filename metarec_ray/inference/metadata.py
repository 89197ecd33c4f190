"""What a model says of itself: its learner, its labels, its limits and how it was made.

Knows checkpoints; does not know catalogues or requests.
"""

from typing import Any

from metarec_ray.checkpoint import Checkpoint
from metarec_ray.config.experiment import Experiment
from metarec_ray.data.log.labels import LabelRules
from metarec_ray.inference.limits import MAX_SUPPORT
from metarec_ray.inference.predictor import SIZES, WEIGHTS


def metadata(
    experiment: Experiment, checkpoint: Checkpoint, rules: LabelRules, *, items: int
) -> dict[str, Any]:
    """Return what can be told of a model of so many items, as plain values."""
    return {
        "algorithm": _description(experiment, checkpoint),
        "feedback": checkpoint.schema["feedback"],
        "items": items,
        "labels": rules.model_dump(mode="json"),
        "limits": {"support": MAX_SUPPORT},
        "metrics": checkpoint.metrics,
        "state": checkpoint.state,
    }


def label_rules(experiment: Experiment, checkpoint: Checkpoint) -> LabelRules:
    """Return the rules of labels; those of the configuration for a checkpoint that has none."""
    if "labels" in checkpoint.schema:
        return LabelRules.model_validate(checkpoint.schema["labels"])
    return LabelRules.of(experiment.data)


def _description(experiment: Experiment, checkpoint: Checkpoint) -> dict[str, Any]:
    """Return the learner's name and hyper-parameters; of a blend its weights at each k.

    A second stage is called by its own name, with what it orders beside it.
    """
    if experiment.second_stage is not None:
        first = _description(experiment.first_stage(), checkpoint)
        own = experiment.second_stage.model_dump(mode="json")
        return {"name": "second_stage", **own, "first_stage": first}
    if not experiment.blend.members:
        return experiment.algorithm.model_dump(mode="json")
    weights = {
        str(k): dict(zip(experiment.blend.members, row, strict=True))
        for k, row in zip(
            checkpoint.model[SIZES].tolist(), checkpoint.model[WEIGHTS].tolist(), strict=True
        )
    }
    return {"name": "blend", "weights": weights}
