"""The same lane on a CUDA device: skipped where there is none."""

import pytest
import torch

from metarec_ray.algorithms.problem import Recipe
from metarec_ray.core.parameters import Rows
from metarec_ray.training.meta_step.step import ParameterState, lane_result, to_device
from tests.unit.algorithms.meta_learners import CASES, MODEL, buffers, lane, named, parameters

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]


@pytest.mark.parametrize("negatives", [0, 5])
@pytest.mark.parametrize(("learner", "feedback"), CASES, ids=named(CASES))
def test_a_lane_has_the_same_gradients_on_a_gpu(learner, feedback, negatives):
    dense, tables = parameters(learner)
    found = []
    for device in (torch.device("cpu"), torch.device("cuda")):
        moved = [{n: p.to(device) for n, p in part.items()} for part in (dense, tables, buffers())]
        state = ParameterState(moved[0], moved[1], {})
        task_lane = to_device(lane(feedback, negatives=negatives), device)
        # Progress 1 is training without what a learner only does at first; dropout is switched off
        # because the two devices draw other numbers.
        quiet = learner.model_copy(
            update={n: 0.0 for n in type(learner).model_fields if n.endswith("_dropout")}
        )
        with device:
            recipe = Recipe.of(quiet, MODEL, feedback)
            said = {"table_rows": {"item.ids": Rows("item", "ids")}, "progress": 1.0, "seed": 0}
            found.append(lane_result(recipe, moved[2], state, task_lane, **said))
    on_cpu, on_gpu = found
    torch.testing.assert_close(on_gpu.dense.cpu(), on_cpu.dense, rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(on_gpu.metrics.cpu(), on_cpu.metrics, rtol=1e-6, atol=1e-9)
    for name, (ids, gradient) in on_cpu.rows.items():
        assert torch.equal(on_gpu.rows[name][0].cpu(), ids)
        torch.testing.assert_close(on_gpu.rows[name][1].cpu(), gradient, rtol=1e-6, atol=1e-9)
