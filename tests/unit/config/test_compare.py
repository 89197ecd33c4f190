"""What two configurations differ in, where it matters to a run that goes on."""

import pytest

from metarec_ray.config.compare import Difference, difference
from metarec_ray.config.experiment import Experiment, override
from metarec_ray.data.settings import Feedback

SECTIONS = ("data", "model", "algorithm", "train", "sweep", "blend")


def changed(values: dict, feedback: Feedback = "implicit", base: dict | None = None) -> str | None:
    begun = override(Experiment(), base or {})
    found = difference(begun, override(begun, values), feedback, SECTIONS)
    return None if found is None else str(found)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"train.steps": 7}, "train.steps was 400 and is 7"),
        ({"train.tasks.ks": [1]}, "train.tasks.ks was [0, 1, 3, 5, 10] and is [1]"),
        ({"train.freeze": ["item"]}, "train.freeze was [] and is ['item']"),
        ({"train.average.rounds": 2}, "train.average.shards was none and is 2"),
        ({"algorithm.name": "maml"}, "algorithm.name was 'bayesian_head' and is 'maml'"),
        ({"train.loss.name": "huber"}, "train.loss.name was 'softmax' and is 'huber'"),
        ({"data.label_min": 3.0}, "data.label_min was none and is 3.0"),
        ({"data.event_weights": {}, "sweep.trials": 3}, "sweep.trials was 8 and is 3"),
        (
            {"blend.members": {"a": {}, "b": {"train.steps": 3}}},
            "blend.members.a was none and is {}",
        ),
    ],
)
def test_a_difference_names_its_key_with_both_values(values: dict, said: str) -> None:
    assert changed(values) == said


@pytest.mark.parametrize(
    "values",
    [
        {"run.dir": "elsewhere", "run.store": "there/store", "run.seed": 0},
        {"data.path": "/moved/log.csv"},
        {"train.init_from": "/moved/source"},
        {"train.teacher": "/moved/teacher"},
        {"train.num_workers": 1, "train.device": "cpu", "train.max_failures": 0},
        {"train.cpus_per_worker": 1.0, "train.log_every": 1, "train.checkpoint_every": 1},
        {"train.placement": "spread"},
        {"sweep.max_concurrent": 1, "sweep.cpus_per_trial": 1.0, "data.versions": 1},
        {"evaluate.ks": [0], "serve.port": 9},
        {"train.loss.name": "softmax"},
    ],
)
def test_what_does_not_matter_is_no_difference(values: dict) -> None:
    assert changed(values) is None
    assert changed({}, base=values) is None


@pytest.mark.parametrize(
    ("feedback", "loss"),
    [("implicit", "softmax"), ("explicit", "squared_error"), ("binary", "cross_entropy")],
)
def test_a_loss_that_is_not_set_is_that_of_the_feedback(feedback: Feedback, loss: str) -> None:
    assert changed({"train.loss.name": loss}, feedback) is None


def test_tables_of_another_place_are_the_same_tables() -> None:
    begun = override(Experiment(), {"data.items": {"path": "a.csv", "id": "i"}})
    moved = override(begun, {"data.items.path": "/b/a.csv"})
    assert difference(begun, moved, "implicit", SECTIONS) is None
    other = override(begun, {"data.items.id": "j"})
    found = difference(begun, other, "implicit", SECTIONS)
    assert found == Difference("data.items.id", "i", "j")
