import pytest
import torch

from metarec_ray.data.tasks.task_store import TaskStore
from metarec_ray.errors import ConfigError
from metarec_ray.evaluation.bench.protocols import item_vectors, open_protocol
from tests.unit.evaluation.bench.small import experiment


@pytest.mark.parametrize(
    ("protocol", "sentence"),
    [
        (
            "nope",
            "must be one of strict, melu, item_kshot, cross_domain, leave_last_out, got 'nope'",
        ),
        ("melu", r"--protocol melu judges predicted labels .*got implicit \(data\.feedback\)"),
    ],
)
def test_a_protocol_that_makes_no_sense_is_refused(store: TaskStore, protocol: str, sentence: str):
    with pytest.raises(ConfigError, match=sentence):
        open_protocol(protocol, experiment(), store, seed=0, data_dir=None)


def test_items_are_as_near_as_the_entities_that_met_both(store: TaskStore):
    table = store.histories(("train", "valid"))
    met = torch.zeros(len(table.task_id), 80)
    met[torch.repeat_interleave(torch.arange(len(met)), table.lengths()), table.item] = 1
    both = met.T @ met
    cosine = both / both.diagonal().outer(both.diagonal()).sqrt().clamp(min=1)
    vectors = item_vectors(store)
    assert torch.allclose(torch.from_numpy((vectors @ vectors.T).toarray()), cosine, atol=1e-5)
