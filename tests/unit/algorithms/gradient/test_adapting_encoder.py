"""An encoder whose parameters adapt to a task: by the same steps as the head."""

from pathlib import Path

import pytest
import torch
from torch.func import grad

from metarec_ray.algorithms.gradient.maml import Fomaml, Maml
from metarec_ray.algorithms.problem import (
    EncodedItems,
    Reencoder,
    Support,
    encode_support,
    encoded_table,
    make_problem,
)
from metarec_ray.algorithms.rivals.counts import Popularity
from metarec_ray.config.experiment import parse
from metarec_ray.core.batch import Encoded, Features, Params
from metarec_ray.core.parameters import split
from metarec_ray.data.tasks.task_store import TaskStore
from metarec_ray.errors import ConfigError
from metarec_ray.evaluation.rivals import fitted
from metarec_ray.inference.recommender import Recommender, SupportEvent
from metarec_ray.models.encoders.base import Side
from metarec_ray.models.encoders.mlp import Mlp
from metarec_ray.models.towers import Sides, Towers
from metarec_ray.training.fit import fit

MODEL = Towers(dim=3, encoder=Mlp(width=4, adapts=True), init_scale=0.5)
ITEMS = Features(torch.tensor([[1], [2], [3], [1]]), torch.ones(4, 1), torch.zeros(4, 0))
USER = Features(torch.tensor([2]), torch.ones(1), torch.zeros(0))
NOW, MASK = torch.zeros(1, 3), torch.ones(3).bool()
POSITION, LABEL = torch.tensor([0, 2, 1]), torch.tensor([1.0, 3.0, 2.0])
ENCODER = {f"{side}.{part}" for side in ("item", "user") for part in ("hidden", "out")}


def parameters() -> tuple[Params, torch.Tensor]:
    sides = Sides(Side(4, 0), Side(4, 0), Side(1, 0), users=1, items=4)
    generator = torch.Generator().manual_seed(0)
    dense, tables = split(MODEL.init(sides, generator))
    noise = {n: 0.2 * torch.randn(p.shape, generator=generator) for n, p in dense.items()}
    return {n: p + noise[n] for n, p in dense.items()}, tables["item.ids"]


def task(meta: Params, ids: torch.Tensor) -> tuple[EncodedItems, torch.Tensor, Encoded]:
    vectors = MODEL.encode(meta, "item", ITEMS, ids)
    items = encoded_table(torch.arange(4), vectors, torch.zeros(4))
    user = MODEL.encode(meta, "user", USER)
    support = Support(items.at(POSITION), NOW, LABEL, MASK, torch.zeros(3).long())
    return items, user, encode_support(support, user)


def test_a_step_moves_the_encoder_along_the_gradient_of_the_support_loss() -> None:
    meta, ids = parameters()
    _, user, support = task(meta, ids)
    reencoder = Reencoder(MODEL, ITEMS, ids, USER, torch.zeros(1), MODEL.adapted())
    problem = make_problem("explicit", None, torch.zeros(0), user, NOW, reencoder=reencoder)
    fast = Maml(inner_lr=0.1, inner_steps=1).adapt(problem, meta, support)

    def loss(params: Params) -> torch.Tensor:
        """The squared error, with everything encoded from its features."""
        item = MODEL.encode(params, "item", ITEMS, ids)[POSITION]
        own = MODEL.encode(params, "user", USER)
        found = item @ (own + params["head.out.weight"]) + params["head.out.bias"]
        return ((found - LABEL) ** 2).mean()

    slopes = grad(loss)(meta)
    moved = {name for name in meta if fast[name] is not meta[name]}
    assert moved == ENCODER | {"head.out.weight", "head.out.bias"}
    for name in moved:
        torch.testing.assert_close(fast[name], meta[name] - 0.1 * slopes[name])


def test_the_meta_gradient_goes_through_the_steps_of_the_encoder() -> None:
    meta, ids = {n: p.double() for n, p in parameters()[0].items()}, parameters()[1].double()
    scale = meta["item.out"]

    def judged(shift: torch.Tensor) -> torch.Tensor:
        moved = meta | {"item.out": scale + shift}
        _, user, support = task(moved, ids)
        reencoder = Reencoder(MODEL, ITEMS, ids, USER, torch.zeros(1), MODEL.adapted())
        problem = make_problem(
            "explicit", None, torch.zeros(0), user, NOW.double(), reencoder=reencoder
        )
        learner = Maml(inner_lr=0.1, inner_steps=2)
        return problem.support_loss(learner.adapt(problem, moved, support), support)

    found = grad(judged)(torch.zeros_like(scale))
    step = torch.zeros_like(scale)
    step[1, 2] = 1e-6
    slope = (judged(step) - judged(-step)) / 2e-6
    torch.testing.assert_close(found[1, 2], slope, rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("name", ["maml", "fomaml", "meta_sgd", "maml_plus_plus", "reptile"])
@pytest.mark.parametrize("encoder", ["token_sum", "mlp"])
def test_it_trains_and_a_request_adapts_it(name: str, encoder: str, synthetic_store: Path) -> None:
    settings = {
        "algorithm": {"name": name},
        "model": {"dim": 4, "encoder": {"name": encoder, "adapts": True}},
        "train": {"num_workers": 1, "lanes": 1, "lane_tasks": 4, "steps": 2},
    }
    model = Recommender(fit(parse(settings, "test"), TaskStore.open(synthetic_store)))
    support = [SupportEvent(model.ids[3]), SupportEvent(model.ids[5])]
    adapted = [item.score for item in model.rank(support, k=5).items]
    assert adapted != [item.score for item in model.rank([], k=5).items]


def test_an_encoder_adapts_by_descent_only(synthetic_store: Path) -> None:
    settings = {"algorithm": {"name": "prototype"}, "model": {"encoder": {"adapts": True}}}
    with pytest.raises(ConfigError, match=r"model.encoder.adapts needs .* got prototype"):
        fit(parse(settings, "test"), TaskStore.open(synthetic_store))


def test_simple_rivals_are_fitted_beside_an_encoder_that_adapts(synthetic_store: Path) -> None:
    experiment = parse({"model": {"encoder": {"name": "mlp", "adapts": True}}}, "test")
    rival = fitted(Popularity(), experiment, TaskStore.open(synthetic_store))
    assert rival.method == "popularity"


def test_first_order_steps_are_constants_for_the_encoder_as_well() -> None:
    meta, ids = parameters()
    _, user, support = task(meta, ids)
    reencoder = Reencoder(MODEL, ITEMS, ids, USER, torch.zeros(1), MODEL.adapted())
    problem = make_problem("explicit", None, torch.zeros(0), user, NOW, reencoder=reencoder)

    def weight(out: torch.Tensor) -> torch.Tensor:
        return Fomaml().adapt(problem, meta | {"item.out": out}, support)["item.out"].sum()

    assert torch.equal(grad(weight)(meta["item.out"]), torch.ones_like(meta["item.out"]))
