"""What a trainer's model is worth on the validation entities of its store."""

from metarec_ray.training.held_out import evaluate_starts
from metarec_ray.training.trainer import Trainer


def validate(trainer: Trainer) -> tuple[float, float]:
    """Return the mean query loss and metric of the validation entities."""
    valid = trainer.store.histories(("valid",))
    return evaluate_starts(trainer, valid.keep(trainer.trained[valid.item]), trainer.trained)
