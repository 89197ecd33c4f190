from pathlib import Path
from typing import Any

import pytest

from metarec_ray.algorithms.closed_form.bayesian import BayesianHead
from metarec_ray.algorithms.gradient.maml import Maml
from metarec_ray.algorithms.losses.labels import Huber
from metarec_ray.algorithms.second_stage.rankers.boosted_trees import BoostedTrees
from metarec_ray.algorithms.second_stage.rankers.networks import Networks
from metarec_ray.config.experiment import Experiment, dump, load, override, override_from, parse
from metarec_ray.config.judging import SecondStage
from metarec_ray.data.settings import Rows
from metarec_ray.errors import ConfigError
from metarec_ray.models.encoders.token_sum import TokenSum


def written(folder: Path, text: str) -> Path:
    path = folder / "job.yaml"
    path.write_text(text, encoding="utf-8")
    return path


EVERYTHING = """
run: {dir: runs/x, seed: 7}
data:
  path: log.parquet
  feedback: explicit
  columns: {entity: who, item: what, label: stars, time: at}
  items: {path: items.csv, id: id, features: {genre: {kind: multi_categorical, separator: "|"}}}
model: {dim: 16, hidden: [8, 4], prior_days: 30, prior_positions: [5, 25]}
algorithm: {name: maml, inner_lr: 0.05, inner_steps: 2}
train: {steps: 10, tasks: {ks: [0, 2], window: 4}}
sweep: {space: {algorithm.inner_lr: {low: 0.01, high: 1}, model.dim: {choices: [8, 16]}}}
evaluate: {ks: [0, 5]}
serve: {name: films, port: 8001}
"""


def test_nothing_written_is_all_defaults() -> None:
    assert load(None) == Experiment()
    assert load(None).algorithm == BayesianHead()


def test_an_empty_file_is_all_defaults(tmp_path: Path) -> None:
    assert load(written(tmp_path, "")) == Experiment()


@pytest.mark.parametrize("text", ["", EVERYTHING], ids=["defaults", "every section"])
def test_what_is_dumped_is_read_back_equal(tmp_path: Path, text: str) -> None:
    experiment = load(written(tmp_path, text))
    again = load(written(tmp_path, dump(experiment)))
    assert again == experiment
    assert dump(again) == dump(experiment)


def test_every_section_is_read(tmp_path: Path) -> None:
    found = load(written(tmp_path, EVERYTHING))
    assert found.algorithm == Maml(inner_lr=0.05, inner_steps=2)
    assert found.model.hidden == (8, 4)
    assert found.train.tasks.ks == (0, 2)
    assert found.directory == Path("runs/x")
    assert found.store == Path("runs/x/store")


def test_overrides_win_over_the_file_and_make_sections(tmp_path: Path) -> None:
    path = written(tmp_path, "train: {steps: 10, lanes: 8}")
    found = load(path, ["train.steps=20", "run.store=elsewhere", "model.hidden=[4]"])
    assert (found.train.steps, found.train.lanes) == (20, 8)
    assert found.store == Path("elsewhere")
    assert found.model.hidden == (4,)


def test_an_override_may_be_repeated() -> None:
    assert load(None, ["train.steps=1", "train.steps=1"]).train.steps == 1


def test_numbers_may_be_written_as_people_write_them() -> None:
    assert load(None, ["train.outer_lr=1e-3"]).train.outer_lr == 1e-3


def test_another_algorithm_starts_from_its_own_defaults(tmp_path: Path) -> None:
    path = written(tmp_path, "algorithm: {name: bayesian_head, prior_precision: 4}")
    assert load(path, ["algorithm.name=maml"]).algorithm == Maml()
    found = load(path, ["algorithm.name=maml", "algorithm.inner_lr=0.5"])
    assert found.algorithm == Maml(inner_lr=0.5)
    # The same name again keeps what the file says.
    again = load(path, ["algorithm.name=bayesian_head"])
    assert again.algorithm == BayesianHead(prior_precision=4)


def test_the_order_of_an_algorithms_overrides_does_not_matter() -> None:
    found = load(None, ["algorithm.inner_lr=0.5", "algorithm.name=maml"])
    assert found.algorithm == Maml(inner_lr=0.5)


def test_an_experiment_can_be_overridden_by_values_or_by_text() -> None:
    base = load(None, ["train.steps=10"])
    one = override(base, {"train.outer_lr": 0.5, "algorithm.name": "anil"})
    other = override_from(base, ["train.outer_lr=0.5", "algorithm.name=anil"])
    assert one == other
    assert (one.train.steps, one.train.outer_lr, one.algorithm.name) == (10, 0.5, "anil")
    assert base.train.outer_lr == Experiment().train.outer_lr


def test_an_algorithm_without_a_name_is_the_default_one() -> None:
    found = parse({"algorithm": {"prior_precision": 2}}, "here")
    assert found.algorithm == BayesianHead(prior_precision=2)


BAD = [
    ("trian: {}", "trian is not a known key"),
    ("train: {step: 3}", "train.step is not a known key"),
    ("algorithm: {name: maml, prior_precision: 1}", "algorithm.prior_precision is not a known key"),
    (
        "algorithm: {name: maml, inner_lr: -1}",
        r"algorithm.inner_lr must be > 0, got -1 \(\S+job.yaml: algorithm.inner_lr\)",
    ),
    ("train: {outer_lr: 0}", "train.outer_lr must be > 0, got 0"),
    ("serve: {port: 70000}", "serve.port must be <= 65535, got 70000"),
    ("model: {dim: 0}", "model.dim must be >= 1, got 0"),
    ("train: {weight_decay: .nan}", "train.weight_decay: input should be a finite number, got NaN"),
    (
        "algorithm: {name: mmal}",
        "algorithm.name must be one of 'maml', 'fomaml', 'anil'.*'bayesian_head'.*, got \"mmal\"",
    ),
    ("train: {steps: many}", 'train.steps: input should be a valid integer, .*got "many"'),
    ("train: {steps: 1.5}", "train.steps: input should be a valid integer, .*got 1.5"),
    ("train: [1, 2]", r"train: input should be a valid dictionary.*, got \[1, 2\]"),
    ("data: {feedback: stars}", "data.feedback must be one of 'implicit', 'binary' or 'explicit'"),
    (
        "train: {num_workers: [1, 5], lanes: 4}",
        "num_workers must be <= lanes 4, got 5",
    ),
    ("train: {num_workers: [3, 2]}", "num_workers must be the fewest and the most, got 3, 2"),
    ("train: {num_workers: [1]}", "a number of workers from 1 to 4096 is needed"),
    ("train: {num_workers: 0}", "a number of workers from 1 to 4096 is needed"),
    (
        "train: {num_workers: 5, lanes: 4}",
        "num_workers must be <= lanes 4, got 5",
    ),
    (
        "train: {tasks: {ks: [0, 20]}}",
        r"train.tasks: every k of ks must be <= window, got ks \[0, 20\] and window 10",
    ),
    ("sweep: {space: {a: {low: 2, high: 1}}}", "low must be < high, got 2.0 and 1.0"),
    ("sweep: {space: {a: {low: 0, high: 1}}}", "low of a log-uniform range must be > 0, got 0.0"),
    ("sweep: {space: {a: {}}}", "a range is either low and high, or choices"),
    ("train: {steps: 0, lanes: 0}", r"train.steps must be > 0, got 0 \(.*; and 1 more\)"),
    ("- train", "a configuration must be a mapping of sections, got a list"),
    ("train", "a configuration must be a mapping of sections, got a str"),
    ("train: {steps: 1", "a configuration must be YAML: .*line 1"),
    ("!!python/object:os.system {}", "a configuration must be YAML: could not determine"),
    (
        "train:\n  steps: 1\n  lanes: 2\n  steps: 1\n",
        "a key must be said once, steps is on line 2 and on line 4",
    ),
    (
        "train: {}\nrun: {}\n'train': {}\n",
        "a key must be said once, train is on line 1 and on line 3",
    ),
    ("sweep: {space: {a: {low: 1, high: 2, low: 0}}}", "low is on line 1 and on line 1"),
    ("[" * 5000, "a configuration must be YAML: it is nested too deeply"),
    ("a: &a [*a]", "a is not a known key"),
    ("train: &a {steps: [*a]}", "train.steps: .* got"),
    ("data: {since: 2024-13-45}", "a configuration must be YAML: month must be in 1..12"),
    ("train: {steps: {2024-01-01: 1}}", "train.steps: .* got"),
]


@pytest.mark.parametrize(("text", "message"), BAD, ids=[text for text, _ in BAD])
def test_a_mistake_is_one_sentence_with_its_place(tmp_path: Path, text: str, message: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(ConfigError, match=message) as caught:
        load(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"must be a readable file, got \S+none.yaml: .*No such"):
        load(tmp_path / "none.yaml")
    with pytest.raises(ConfigError, match=r"must be a readable file, got .*directory"):
        load(tmp_path)


def test_a_file_that_is_not_text_is_named(tmp_path: Path) -> None:
    (tmp_path / "job.yaml").write_bytes(b"\xff\xfe\x00train")
    with pytest.raises(ConfigError, match=r"must be a readable file, got .*job.yaml"):
        load(tmp_path / "job.yaml")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("train.steps", "an override must be key=value, got 'train.steps'"),
        ("=3", "an override must be key=value, got '=3'"),
        ("train.steps=[1", r"the value of an override must be YAML, got '\[1' .--set train.steps"),
        ("train.steps.x=3", "steps of train.steps.x must be a section, got the value 5"),
        ("train.stepz=3", "train.stepz is not a known key"),
        ("train.steps=-1", "train.steps must be > 0, got -1"),
        ("algorithm.name=x", 'algorithm.name must be one of .*, got "x"'),
        ("data.event_weights={a: 1, a: 2}", "said once, a is on line 1 .*--set data.event_weights"),
        ("run.dir=", "run.dir: input should be a valid string, got null"),
    ],
)
def test_a_bad_override_is_one_sentence(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load(written(tmp_path, "train: {steps: 5}"), [text])


AS_WRITTEN = [
    ("data.items.id", "007"),
    ("data.items.id", "1e3"),
    ("data.items.id", "null"),
    ("data.columns.entity", "user #"),
    ("data.columns.entity", "%d/%m/%Y #1"),
    ("data.columns.entity", "'user'"),
    ("data.columns.entity", ' "user" '),
    ("data.columns.entity", "a: b"),
    ("data.columns.entity", "[user]"),
    ("data.columns.entity", "{user"),
    ("data.columns.entity", "yes"),
    ("data.columns.entity", "2024-01-01"),
    ("data.columns.entity", "a=b"),
    ("data.columns.entity", "~"),
    ("train.init_from", "@x"),
    ("data.context.day.separator", "|"),
]


@pytest.mark.parametrize(("key", "text"), AS_WRITTEN)
def test_an_override_of_a_text_is_taken_as_it_is_written(
    tmp_path: Path, key: str, text: str
) -> None:
    path = written(
        tmp_path,
        "data: {items: {path: i.csv, id: i}, context: {day: {kind: multi_categorical}}}",
    )
    value: Any = load(path, [f"{key}={text}"]).model_dump()
    for part in key.split("."):
        value = value[part]
    assert value == text


@pytest.mark.parametrize(
    ("override", "values"),
    [
        ("run.store=null", None),
        ("run.store=", None),
        ("data.label_min=", None),
        ("data.since=2024-01-01", "2024-01-01"),
        ("data.only={path: 01, column: yes, value: 007}", ("01", "yes", "007")),
        ("data.only={path: a, column: b, value: 7}", ("a", "b", 7)),
        ("train.freeze=[item, user]", ("item", "user")),
        ("evaluate.ks=[0, 3]", (0, 3)),
        ("run.seed=0x10", 16),
        ("serve.haproxy=no", False),
        (
            "sweep.space={model.dim: {choices: [8, 8.0, on, true, null]}}",
            (8, 8.0, "on", True, None),
        ),
    ],
)
def test_the_schema_decides_what_an_override_means(override: str, values: object) -> None:
    experiment = load(None, [override])
    value: Any = experiment
    for part in override.partition("=")[0].split("."):
        value = getattr(value, part)
    if isinstance(value, Rows):
        value = (value.path, value.column, value.value)
    if isinstance(value, dict):
        value = value["model.dim"].choices
    assert value == values
    assert not isinstance(values, tuple) or list(map(type, value)) == list(map(type, values))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["train.steps=1", "train.steps=2"], r"set once, got 1 and 2 \(--set train.steps\)"),
        (["train={lanes: 3}", "train.steps=2"], "as a whole or key by key, got train and train.st"),
    ],
)
def test_an_override_that_contradicts_another_is_refused(
    overrides: list[str], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        load(None, overrides)


def test_an_override_of_an_experiment_that_breaks_a_rule_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"train.outer_lr must be > 0, got -1"):
        override(Experiment(), {"train.outer_lr": -1})


def test_an_experiment_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match=r"frozen"):
        Experiment().train.steps = 3  # pyright: ignore[reportAttributeAccessIssue]


def test_an_encoder_without_a_name_is_the_default_one() -> None:
    assert load(None, ["model.encoder.adapts=true"]).model.encoder == TokenSum(adapts=True)


def test_a_second_stage_is_none_unless_it_is_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    for text, found in (
        ("", None),
        ("second_stage:\n", None),
        ("second_stage: {}\n", SecondStage()),
    ):
        path.write_text(text)
        assert load(path).second_stage == found
    assert load(path, ["second_stage=null"]).second_stage is None
    assert load(None, ["second_stage.folds=4"]).second_stage == SecondStage(folds=4)
    with pytest.raises(ConfigError, match=r"second_stage.folds must be >= 2, got 1"):
        load(None, ["second_stage.folds=1"])


def test_a_second_stage_has_the_keys_of_its_ranker_alone(tmp_path: Path) -> None:
    path = tmp_path / "experiment.yaml"
    path.write_text("second_stage: {ranker: {epochs: 3}}\n", "utf-8")
    found = load(path).second_stage
    assert found == SecondStage(ranker=Networks(epochs=3))
    trees = load(path, ["second_stage.ranker.name=boosted_trees", "second_stage.ranker.trees=9"])
    assert trees.second_stage == SecondStage(ranker=BoostedTrees(trees=9))
    for wrong, message in (
        ("second_stage.epochs=3", r"^second_stage.epochs is not a known key"),
        ("second_stage.ranker.trees=3", r"^second_stage.ranker.trees is not a known key"),
        ("second_stage.ranker.name=forest", r"ranker.name must be one of .*'boosted_trees'"),
    ):
        with pytest.raises(ConfigError, match=message):
            load(path, [wrong])
    with pytest.raises(ConfigError, match=r"second_stage.ranker.leaves must be <= 31, got 32"):
        load(None, ["second_stage.ranker.name=boosted_trees", "second_stage.ranker.leaves=32"])


def test_a_section_that_may_be_nothing_can_be_set_key_by_key() -> None:
    resolved = override(Experiment(), {"train.loss.name": "huber", "train.loss.delta": 2.0})
    assert resolved.train.loss == Huber(delta=2.0)


def test_another_member_of_a_union_leaves_the_keys_of_the_old_one() -> None:
    begun = override(Experiment(), {"model.encoder.name": "mlp", "model.encoder.width": 5})
    assert override(begun, {"model.encoder.name": "token_sum"}).model.encoder == TokenSum()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"model.encoder.name": "mlp", "model.encoder.width": -1},
            "model.encoder.width must be > 0, got -1 (an override: model.encoder.width)",
        ),
        (
            {"train.loss.name": "hubert"},
            "train.loss.name must be one of 'softmax', 'generalised_softmax', 'squared_error', "
            "'huber', 'cross_entropy', 'generalised_cross_entropy', "
            'got "hubert" (an override: train.loss)',
        ),
    ],
)
def test_a_wrong_key_of_a_member_is_named_as_it_is_written(values: dict, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        override(Experiment(), values)
    assert str(error.value) == message


def test_a_number_that_is_led_by_zeros_is_no_octal(tmp_path: Path) -> None:
    assert load(written(tmp_path, "{}"), ["train.steps=010"]).train.steps == 10
