import pytest
import torch

from metarec_ray.config.experiment import Evaluate, parse
from metarec_ray.core.batch import Features, FieldSpan, SideInformation
from metarec_ray.core.histories import Histories
from metarec_ray.errors import ConfigError, DataError
from metarec_ray.evaluation.protocols.strict import StrictTasks, cut_tasks, positive_threshold
from tests.unit.small_histories import histories_of

SMALL = Evaluate(ks=(0, 1, 2), query_size=2, min_positives=4, force=True)


def table(first_id: int, *histories: list[tuple[int, float]], n_items: int = 8) -> Histories:
    flat = [event for history in histories for event in history]
    n = len(histories)
    found = histories_of(
        [[item for item, _ in history] for history in histories],
        n_items=n_items,
        label=[label for _, label in flat],
        time=range(len(flat)),
    )
    users = Features(torch.arange(n).unsqueeze(1), torch.ones(n, 1), torch.zeros(n, 0))
    return found._replace(
        task_id=torch.arange(first_id, first_id + n),
        users=SideInformation(users, (FieldSpan("number", True, 0, n),), n),
    )


def of(*items: int, label: float = 1.0) -> list[tuple[int, float]]:
    return [(item, label) for item in items]


TRAINING = table(0, of(0, 1, 2, 3, 4, 5), of(0, 1), of(0))


def cut(*test: list[tuple[int, float]], settings: Evaluate = SMALL, **more: float) -> StrictTasks:
    return cut_tasks(TRAINING, table(10, *test), settings, positive_min=more.get("positive_min"))


def test_support_is_the_first_positives_and_query_what_follows_the_window():
    tasks = cut(of(5, 3, 1, 0, 2))
    assert tasks.support.tolist() == [[5, 3]]
    assert tasks.query.tolist() == [[1, 0]]
    assert tasks.gains()[0].tolist() == [1, 1, 0, 0, 0, 0, 0, 0]
    assert tasks.time.tolist() == [[0, 1]]
    assert tasks.query_event.tolist() == [2]


def test_items_that_training_never_met_are_neither_events_nor_candidates():
    tasks = cut(of(7, 5, 6, 3, 1, 0))
    assert tasks.support.tolist() == [[5, 3]]
    assert tasks.event.tolist() == [[1, 3]]
    assert tasks.candidates(0)[0].tolist() == [True, True, True, False, True, False, False, False]


def test_the_whole_window_is_masked_at_every_k_unless_only_the_support_is():
    window, support = (
        cut(of(5, 3, 1, 0)),
        cut(of(5, 3, 1, 0), settings=SMALL.model_copy(update={"mask": "support"})),
    )
    for k in (0, 1, 2):
        assert window.candidates(k)[0].sum() == 6 - 2
        assert support.candidates(k)[0].sum() == 6 - k
    assert not support.candidates(1)[0, 5]


def test_entities_with_too_few_positives_are_not_judged_and_users_stay_aligned():
    tasks = cut(of(0, 1, 2), of(0, 1, 2, 3), of(7, 6, 0, 1), of(5, 4, 3, 2))
    assert tasks.entity.tolist() == [11, 13]
    assert tasks.user.tokens.tolist() == [[1], [3]]
    assert tasks.support.tolist() == [[0, 1], [5, 4]]


def test_low_ratings_are_no_positives_and_labels_reach_the_support():
    ratings = [(0, 5.0), (1, 2.0), (2, 4.0), (3, 4.5), (4, 5.0)]
    tasks = cut(ratings, positive_min=4.0)
    assert tasks.support.tolist() == [[0, 2]]
    assert tasks.label.tolist() == [[5.0, 4.0]]
    assert tasks.query.tolist() == [[3, 4]]


def test_a_repeated_item_counts_at_its_first_event_only():
    tasks = cut(of(5, 5, 3, 5, 1, 3, 0))
    assert tasks.support.tolist() == [[5, 3]]
    assert tasks.query.tolist() == [[1, 0]]


def test_share_is_of_training_entities():
    assert cut(of(0, 1, 2, 3)).share[:3].tolist() == pytest.approx([3 / 3, 2 / 3, 1 / 3])


def test_thresholds_follow_the_feedback():
    assert positive_threshold(SMALL, "implicit") is None
    assert positive_threshold(SMALL, "binary") == 0.5
    assert positive_threshold(SMALL, "explicit") == 4.0


def test_fewer_than_a_hundred_entities_are_refused_unless_forced():
    with pytest.raises(DataError, match=r"needs 100 test entities .* got 1 of 1 test entities"):
        cut(of(0, 1, 2, 3), settings=SMALL.model_copy(update={"force": False}))
    with pytest.raises(DataError, match="got 0 of 1"):
        cut(of(0, 1, 2))


def test_a_history_too_short_for_window_and_query_is_refused():
    settings = SMALL.model_copy(update={"min_positives": 3})
    with pytest.raises(ConfigError, match=r"max\(ks\) \+ query_size = 4, got 3"):
        cut(of(0, 1, 2, 3), settings=settings)


def test_a_clean_boundary_leaves_out_entities_whose_query_begins_inside_a_timestamp():
    training = table(0, of(0, 1, 2, 3), n_items=4)
    test = table(1, of(0, 1, 2, 3), of(0, 1, 2, 3), n_items=4)
    test = test._replace(time=torch.tensor([1, 2, 2, 3, 1, 2, 3, 3]))
    settings = SMALL.model_copy(update={"boundary": "clean"})
    found = cut_tasks(training, test, settings, positive_min=None)
    assert found.entity.tolist() == [2]


@pytest.mark.parametrize("boundary", ["any", "clean"])
def test_the_empty_support_alone_can_be_judged(boundary: str):
    settings = SMALL.model_copy(update={"ks": (0,), "boundary": boundary})
    tasks = cut(of(5, 3, 1, 0), of(2, 4, 5, 1), settings=settings)
    assert tasks.query.tolist() == [[5, 3], [2, 4]]
    assert (tasks.candidates(0).sum(1) == 6).all()
    support = tasks.supports(0)
    assert support.mask.tolist() == [[False], [False]]
    assert support.item.shape == support.label.shape == support.time.shape == (2, 1)
    assert support.context.tokens.shape[:2] == (2, 1)


def test_a_clean_boundary_needs_a_clock():
    test = table(1, of(0, 1, 2, 3))
    test = test._replace(time=torch.zeros_like(test.time))
    settings = SMALL.model_copy(update={"boundary": "clean"})
    with pytest.raises(ConfigError, match=r"evaluate.boundary=clean needs a clock, the log has no"):
        cut_tasks(TRAINING, test, settings, positive_min=None)


def test_an_error_says_whose_entities_are_too_few():
    settings = SMALL.model_copy(update={"force": False})
    with pytest.raises(DataError, match=r"needs 100 valid entities .* got 1 of 1 valid entities"):
        cut_tasks(TRAINING, table(1, of(0, 1, 2, 3)), settings, positive_min=None, part="valid")


@pytest.mark.parametrize(
    ("ks", "message"),
    [
        ([], r"evaluate\.ks: .*at least 1 item"),
        ([0, 0, 5], r"evaluate\.ks: every k of ks must be there once, got \[0, 0, 5\]"),
    ],
)
def test_no_k_and_repeated_ks_are_refused(ks: list[int], message: str):
    with pytest.raises(ConfigError, match=message):
        parse({"evaluate": {"ks": ks}}, "here")
