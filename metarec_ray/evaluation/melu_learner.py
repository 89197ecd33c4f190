"""A trained recommender as a row of the protocol `melu`.

Knows how the partition's films and users become a request; adaptation is the recommender's own.
"""

import polars as pl
import torch

from metarec_ray.core.batch import Features
from metarec_ray.data.features import encode_record, stack
from metarec_ray.evaluation.melu import MeluSplit, MeluTasks, Predictor
from metarec_ray.recommender import Recommender, Supports


def recommender_predictor(
    recommender: Recommender, split: MeluSplit, users: pl.DataFrame | None, *, fit_seconds: float
) -> Predictor:
    """Return what predicts the query ratings of tasks after adapting on their supports.

    Args:
        recommender: knows every film of the partition, by its features at least.
        split: its ids are the films that tasks count in.
        users: `id` and features in canonical columns; a user without a row has none.
        fit_seconds: of training.

    """
    rows = torch.tensor([recommender.rows[str(film)] for film in split.ids])
    space = recommender.spaces["user"]
    names = [field.name for field in space.fields]
    known = {} if users is None else {row["id"]: row for row in users.to_dicts()}

    def user(raw: int) -> Features:
        fields = {name: known[raw][name] for name in names} if raw in known else {}
        return encode_record(space, recommender.vocabularies["user"], fields, "user")

    def predict(tasks: MeluTasks) -> torch.Tensor:
        # The partition's shuffle has no clock and no context: all events share the missing one.
        missing = recommender.spaces["context"].missing()
        n, length = tasks.item.shape
        supports = Supports(
            item=rows[tasks.item],
            label=tasks.label,
            mask=tasks.mask,
            context=Features(*(column.expand(n, length, -1) for column in missing)),
            user=stack([user(raw) for raw in tasks.user.tolist()]),
            now=Features(*(column.expand(n, 1, -1) for column in missing)),
        )
        return recommender.scores(supports, items=rows[tasks.query_item])

    return Predictor(recommender.experiment.algorithm.name, "learner", fit_seconds, predict)
