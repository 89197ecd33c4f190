"""A second stage as it is kept: written, read again, and used where it helps."""

import pytest
import torch
from safetensors.torch import load, save
from torch import Tensor

from metarec_ray.algorithms.second_stage.features import features, item_knowledge
from metarec_ray.algorithms.second_stage.rankers.inputs import scale_of, standardised
from metarec_ray.algorithms.second_stage.rankers.networks import (
    Networks,
    initial_network,
    net_scores,
)
from metarec_ray.algorithms.second_stage.reranker import Reranker, inputs_of, parameters
from metarec_ray.algorithms.second_stage.shortlist import Shortlist
from metarec_ray.core.batch import Features, FieldSpan, Params, SideInformation
from tests.unit.algorithms.second_stage.one_task import of_task
from tests.unit.small_histories import histories_of

ITEMS, LIST, KS = 40, 10, torch.tensor([0, 1, 3])
LENGTHS = [0, 1, 2, 3, 5]


def drawn(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def side(n: int) -> SideInformation:
    known = Features(1 + torch.arange(n)[:, None] % 3, torch.ones(n, 1), drawn(n, 2, seed=n))
    fields = (
        FieldSpan("kind", True, 1, 4),
        FieldSpan("size", False, 0, 1),
        FieldSpan("age", False, 1, 2),
    )
    return SideInformation(known, fields, 4)


def knowledge() -> Params:
    lists = torch.randint(ITEMS, (9, 12), generator=torch.Generator().manual_seed(0)).tolist()
    data = histories_of(lists, n_items=ITEMS)
    return item_knowledge(data._replace(users=side(9), items=side(ITEMS)))


def asked() -> Shortlist:
    """Supports of 0, 1, 2, 3 and 5 events; the last list has six real items."""
    tasks = len(LENGTHS)
    generator = torch.Generator().manual_seed(1)
    score = drawn(tasks, LIST, seed=2).sort(1, descending=True).values
    real = torch.ones(tasks, LIST, dtype=torch.bool)
    real[-1, 6:] = False
    return Shortlist(
        item=torch.rand(tasks, ITEMS, generator=generator).argsort(1)[:, :LIST],
        real=real,
        score=score,
        parts=score.unsqueeze(0),
        support=torch.randint(ITEMS, (tasks, 6), generator=generator),
        mask=torch.arange(6) < torch.tensor(LENGTHS).unsqueeze(1),
        time=torch.zeros(tasks, 6).long(),
        user=side(tasks).features,
    )


def net(seed: int) -> Params:
    width = features(knowledge(), asked()).shape[-1]
    generator = torch.Generator().manual_seed(seed)
    found = initial_network(width, len(KS), generator)
    return {n: v + 0.3 * torch.randn(v.shape, generator=generator) for n, v in found.items()}


def params(helps: list[bool], seeds: tuple[int, ...] = (3, 4)) -> Params:
    inputs = inputs_of(asked(), knowledge(), KS)
    scale = scale_of(inputs.features, inputs.real)
    nets = [net(seed) for seed in seeds]
    return parameters(knowledge(), nets, scale, ks=KS, helps=torch.tensor(helps))


def test_what_is_written_is_read_again_and_gives_the_same_scores() -> None:
    whole = params([True, False, True])
    assert all(
        isinstance(value, Tensor) and value.layout == torch.strided for value in whole.values()
    )
    read = load(save({name: value.contiguous() for name, value in whole.items()}))
    assert read.keys() == whole.keys()
    for name, value in whole.items():
        assert value.dtype == read[name].dtype
        assert torch.equal(value, read[name]), name
    assert torch.equal(
        Reranker(Networks(), read).scores(asked()), Reranker(Networks(), whole).scores(asked())
    )


def test_names_say_which_part_a_parameter_is_of() -> None:
    names = {name.split(".")[0] for name in params([True] * 3)}
    assert names == {"knowledge", "fits", "scale", "ks", "helps"}


def test_scores_are_the_mean_of_the_networks() -> None:
    lists, whole = asked(), params([True] * 3)
    inputs = inputs_of(lists, knowledge(), KS)
    standard = standardised(scale_of(inputs.features, inputs.real), inputs)
    right = torch.stack([net_scores(net(seed), standard, inputs)[0] for seed in (3, 4)]).mean(0)
    found = Reranker(Networks(), whole).scores(lists)
    torch.testing.assert_close(found[lists.real], right[lists.real], rtol=1e-4, atol=1e-4)
    assert bool((found[~lists.real] == -torch.inf).all())


def test_the_inputs_hold_the_score_behind_the_best_and_the_size_that_was_learned() -> None:
    lists = asked()
    found = inputs_of(lists, knowledge(), KS)
    # Sizes 0, 1 and 3 were learned: 2 events count as 1, and 5 as 3.
    assert found.size.tolist() == [0, 1, 1, 2, 2]
    torch.testing.assert_close(found.score[:-1], (lists.score - lists.score[:, :1])[:-1])
    assert not found.score[~lists.real].any()
    shifted = inputs_of(lists._replace(score=lists.score + 2), knowledge(), KS)
    torch.testing.assert_close(shifted.score, found.score)


@pytest.mark.parametrize("helps", [[False] * 3, [True, False, True], [False, True, False]])
def test_where_it_does_not_help_the_order_is_that_of_the_first_stage(helps: list[bool]) -> None:
    lists = asked()
    found = Reranker(Networks(), params(helps)).scores(lists)
    learned = Reranker(Networks(), params([True] * 3)).scores(lists)
    first = (lists.score - lists.score[:, :1]).masked_fill(~lists.real, -torch.inf)
    for task, row in enumerate([0, 1, 1, 2, 2]):
        assert torch.equal(found[task], (learned if helps[row] else first)[task])
        assert (found[task].diff() <= 0)[:5].all() != helps[row]


def test_a_fresh_network_leaves_the_order_as_it_is() -> None:
    lists = asked()
    inputs = inputs_of(lists, knowledge(), KS)
    scale = scale_of(inputs.features, inputs.real)
    nothing = initial_network(inputs.features.shape[-1], len(KS), torch.Generator())
    whole = parameters(knowledge(), [nothing], scale, ks=KS, helps=torch.ones(3).bool())
    found = Reranker(Networks(), whole).scores(lists)
    assert torch.equal(found[lists.real], inputs.score[lists.real])


def test_a_task_does_not_depend_on_its_neighbours() -> None:
    lists, model = asked(), Reranker(Networks(), params([True] * 3))
    together = model.scores(lists)
    for task in range(len(LENGTHS)):
        alone = model.scores(of_task(lists, task))[0]
        torch.testing.assert_close(alone, together[task], rtol=1e-4, atol=1e-4)
