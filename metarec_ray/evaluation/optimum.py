"""The row that no method can beat: the posterior of the synthetic log's own model.

Knows a store of the synthetic log, and the true model behind it, which learners never see.
"""

import torch
from torch import Tensor

from metarec_ray.data.datasets import synthetic
from metarec_ray.data.datasets.optimum import optimum
from metarec_ray.data.settings import Data
from metarec_ray.data.tasks.task_store import TaskStore
from metarec_ray.evaluation.protocols.strict import StrictTasks
from metarec_ray.evaluation.scoring import Method


def optimum_method(store: TaskStore, tasks: StrictTasks) -> Method:
    """Return the optimum as a row: it ranks by the posterior given the support of every method.

    The store must be of the synthetic log: then task ids and item rows are rows of the true model.
    """
    settings = Data.model_validate(store.manifest.settings)
    truth = synthetic.generate(settings.synthetic, settings.feedback, settings.seed).truth
    candidates = torch.nonzero(tasks.trained).flatten()

    def scores(k: int) -> Tensor:
        found = optimum(
            truth,
            tasks.entity.numpy(),
            support=tasks.support[:, :k].numpy(),
            candidates=candidates.numpy(),
            labels=None if settings.feedback == "implicit" else tasks.label[:, :k].double().numpy(),
        )
        matrix = torch.full((len(tasks.entity), len(tasks.trained)), -torch.inf)
        matrix[:, candidates] = torch.from_numpy(found).float()
        return matrix

    return Method("optimum", "optimum", 0.0, scores)
