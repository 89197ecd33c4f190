from pathlib import Path

import pytest
import torch

from metarec_ray import checkpoint as checkpoints
from metarec_ray.algorithms.base import Fitting
from metarec_ray.algorithms.rivals.neighbours import Ease
from metarec_ray.config.experiment import Experiment, override, parse
from metarec_ray.data.tasks.task_store import TaskStore
from metarec_ray.errors import CheckpointError, ConfigError
from metarec_ray.inference.recommender import Recommender, SupportEvent
from metarec_ray.training.artifact import own_config, require_same_run
from metarec_ray.training.fit import fit


@pytest.fixture(scope="module")
def store(synthetic_store: Path) -> TaskStore:
    return TaskStore.open(synthetic_store)


def asked(**sections: dict) -> Experiment:
    return parse(sections, "test")


def test_a_learner_without_a_model_is_fitted_on_histories_and_serves_from_its_checkpoint(
    store: TaskStore, tmp_path: Path
) -> None:
    experiment = asked(algorithm={"name": "ease", "penalty": 5.0})
    checkpoints.save(fit(experiment, store), tmp_path / "ease")
    served = Recommender.load(tmp_path / "ease")
    assert served.kind == "rival"
    learned = Ease(penalty=5.0).fit(store.histories(("train", "valid")))
    ids = served.ids
    found = served.rank([SupportEvent(ids[3]), SupportEvent(ids[8])], k=5).items
    scores = learned["similarity"][[3, 8]].sum(0)
    assert [item.score for item in found] == pytest.approx(
        sorted((scores[served.rows[item.id]].item() for item in found), reverse=True)
    )


def test_validation_entities_are_left_out_where_parts_say_so(store: TaskStore) -> None:
    seen = []

    def each(function, values):
        seen.extend(histories.n_entities for histories in values)
        return [function(value) for value in values]

    experiment = asked(algorithm={"name": "popularity"}, train={"parts": "train"})
    fit(experiment, store, fitting=Fitting(each=each))
    assert seen == [store.manifest.parts["train"]]


def test_a_meta_learner_is_trained_by_the_outer_loop(store: TaskStore) -> None:
    lines: list[str] = []
    train = {"steps": 2, "lanes": 2, "lane_tasks": 4, "log_every": 1}
    checkpoint = fit(
        asked(model={"dim": 4}, train=train), store, fitting=Fitting(progress=lines.append)
    )
    assert checkpoint.state["step"] == 2
    assert [line.split("  ")[0] for line in lines] == ["step 1/2", "step 2/2"]


def test_an_algorithm_for_other_labels_is_refused(store: TaskStore) -> None:
    sentence = r"user_item_bias learns from explicit feedback, got implicit \(data.feedback\)"
    with pytest.raises(ConfigError, match=sentence):
        fit(asked(algorithm={"name": "user_item_bias"}), store)


def test_another_seed_or_penalty_is_another_run(store: TaskStore) -> None:
    experiment = asked(algorithm={"name": "ease", "penalty": 5.0})
    checkpoint, path = fit(experiment, store), Path("run/step-0")
    require_same_run(checkpoint, experiment, store, path)
    with pytest.raises(CheckpointError, match=r"algorithm.penalty was 5.0 and is 6.0 \(run/s"):
        require_same_run(checkpoint, asked(algorithm={"name": "ease", "penalty": 6.0}), store, path)
    other = experiment.model_copy(update={"run": asked(run={"seed": 1}).run})
    with pytest.raises(CheckpointError, match=r"run.seed was 0 and is 1"):
        require_same_run(checkpoint, other, store, path)


def test_other_choices_are_another_run_where_something_is_chosen(store: TaskStore) -> None:
    alone = asked(algorithm={"name": "ease", "penalty": 5.0})
    checkpoint, path = fit(alone, store), Path("run/step-0")
    fewer = {"evaluate.ks": [0]}
    require_same_run(checkpoint, override(alone, fewer), store, path)
    members = {name: {"algorithm.name": name} for name in ("ease", "popularity")}
    for joins in ({"blend": {"members": members}}, {"second_stage": {}}):
        begun = override(alone, joins)
        written = checkpoint._replace(config=own_config(begun, 0))
        require_same_run(written, begun, store, path)
        with pytest.raises(CheckpointError, match=r"evaluate.ks was \(.*\) and is \(0,\)"):
            require_same_run(written, override(begun, fewer), store, path)


def test_sums_of_shards_are_the_sums_of_the_whole(
    store: TaskStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    histories = store.histories(("train", "valid"))
    whole = Ease(penalty=5.0).fit(histories)
    monkeypatch.setattr(Ease, "shard", 37)
    for name, value in Ease(penalty=5.0).fit(histories).items():
        torch.testing.assert_close(value, whole[name])
