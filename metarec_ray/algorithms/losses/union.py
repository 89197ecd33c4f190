"""Every loss, as one union: what `train.loss` may be (docs/extending.md)."""

from typing import Annotated

from pydantic import Field

from metarec_ray.algorithms.losses.choices import GeneralisedSoftmax, Softmax
from metarec_ray.algorithms.losses.labels import (
    CrossEntropy,
    GeneralisedCrossEntropy,
    Huber,
    SquaredError,
)
from metarec_ray.data.settings import Feedback
from metarec_ray.errors import ConfigError

AnyLoss = Annotated[
    Softmax | GeneralisedSoftmax | SquaredError | Huber | CrossEntropy | GeneralisedCrossEntropy,
    Field(discriminator="name"),
]

DEFAULTS: dict[Feedback, AnyLoss] = {
    "implicit": Softmax(),
    "explicit": SquaredError(),
    "binary": CrossEntropy(),
}


def loss_for(feedback: Feedback, asked: AnyLoss | None = None) -> AnyLoss:
    """Return the loss that is asked for, or the one that the kind of feedback is learned by.

    Raises:
        ConfigError: it makes no sense of such labels.

    """
    loss = DEFAULTS[feedback] if asked is None else asked
    if feedback not in loss.suits:
        raise ConfigError(
            f"train.loss {loss.name} learns from {' or '.join(loss.suits)} feedback, "
            f"got {feedback} (data.feedback)"
        )
    return loss
