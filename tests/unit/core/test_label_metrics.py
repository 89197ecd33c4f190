import math

import pytest
import torch
from torch import Tensor

from metarec_ray.core import label_metrics

# The oracles, scikit-learn and scipy.stats, take two seconds to import. Tests do it themselves, so
# that of several workers only those wait that need them.
ALL = torch.ones(1, 4, dtype=torch.bool)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def row(*values: float) -> Tensor:
    return torch.tensor([values], dtype=torch.float32)


def ragged() -> tuple[Tensor, Tensor, Tensor]:
    """Predictions with ties, integer labels, and tasks of 5 to 24 real entries."""
    predicted = (8 * torch.rand(20, 24, generator=seeded(0))).round() / 2
    label = torch.randint(1, 6, (20, 24), generator=seeded(1)).float()
    mask = torch.arange(24) < torch.arange(5, 25).unsqueeze(1)
    return predicted, label, mask


def test_errors_reproduce_arithmetic_over_masked_entries():
    predicted, label = row(1, 4, 100), row(2, 2, 0)
    mask = torch.tensor([[True, True, False]])
    assert label_metrics.squared_error(predicted, label, mask).item() == pytest.approx(5 / 2)
    assert label_metrics.rmse(predicted, label, mask).item() == pytest.approx(math.sqrt(5 / 2))
    assert label_metrics.mae(predicted, label, mask).item() == pytest.approx((1 + 2) / 2)


def test_correlations_agree_with_scipy():
    from scipy import stats

    predicted, label, mask = ragged()
    linear = label_metrics.pearson(predicted, label, mask)
    ranks = label_metrics.spearman(predicted, label, mask)
    for task in range(20):
        x, y = predicted[task, mask[task]].numpy(), label[task, mask[task]].numpy()
        assert linear[task].item() == pytest.approx(stats.pearsonr(x, y)[0], abs=1e-5)
        assert ranks[task].item() == pytest.approx(stats.spearmanr(x, y)[0], abs=1e-5)


def test_ranks_agree_with_scipy_where_entries_tie():
    from scipy import stats

    predicted, _, mask = ragged()
    predicted[3, 0], predicted[3, 1] = math.inf, -math.inf
    found = label_metrics.average_ranks(predicted, mask)
    for task in range(20):
        expected = stats.rankdata(predicted[task, mask[task]].numpy())
        assert found[task, mask[task]].tolist() == expected.tolist()


def test_the_auc_agrees_with_scikit_learn_and_counts_a_tie_half():
    from sklearn.metrics import roc_auc_score

    predicted, label, mask = ragged()
    found = label_metrics.auc(predicted, label >= 4, mask)
    for task in range(20):
        x, y = predicted[task, mask[task]].numpy(), (label[task, mask[task]] >= 4).numpy()
        assert found[task].item() == pytest.approx(roc_auc_score(y, x), abs=1e-6)
    # Two positives above, beside and below one negative each: (1 + 1/2 + 1 + 0) / 4.
    scores, positive = row(3, 1, 1, 2), torch.tensor([[True, True, False, False]])
    assert label_metrics.auc(scores, positive, ALL).item() == pytest.approx((1 + 0.5 + 1 + 0) / 4)


def test_the_log_loss_agrees_with_scikit_learn():
    from sklearn.metrics import log_loss

    logit = torch.randn(1, 200, generator=seeded(2))
    label = (torch.rand(1, 200, generator=seeded(3)) < 0.4).float()
    mask = torch.ones_like(logit, dtype=torch.bool)
    expected = log_loss(label[0].numpy(), torch.sigmoid(logit)[0].double().numpy())
    assert label_metrics.log_loss(logit, label, mask).item() == pytest.approx(expected, abs=1e-6)


def test_the_calibration_error_agrees_with_scikit_learn():
    from sklearn.calibration import calibration_curve

    chance = torch.rand(1000, generator=seeded(4))
    label = (torch.rand(1000, generator=seeded(5)) < chance**2).float()
    truth, mean = calibration_curve(
        label.numpy(), chance.double().numpy(), n_bins=10, strategy="quantile"
    )
    # Bins of equal mass: 100 entries each.
    expected = sum(abs(truth - mean)) / 10
    assert label_metrics.calibration_error(chance, label) == pytest.approx(expected, abs=1e-6)


def test_what_says_the_truth_is_calibrated_and_what_is_shifted_is_off_by_the_shift():
    label = torch.randint(1, 6, (500,), generator=seeded(6)).float()
    assert label_metrics.calibration_error(label, label) == pytest.approx(0, abs=1e-9)
    assert label_metrics.calibration_error(label + 0.5, label) == pytest.approx(0.5)
    assert label_metrics.calibration_error(torch.full((500,), 3.0), label) == pytest.approx(
        abs(label.mean().item() - 3), abs=1e-5
    )


def test_the_calibration_error_takes_more_entries_than_a_quantile_of_torch_does():
    predicted = torch.arange(2**24 + 1, dtype=torch.float32) / 2**24
    assert label_metrics.calibration_error(predicted, predicted + 0.25) == pytest.approx(0.25)


def test_the_slope_of_ratings_is_that_of_least_squares():
    from scipy import stats

    predicted = torch.randn(300, generator=seeded(7))
    label = 0.5 * predicted + torch.randn(300, generator=seeded(8))
    expected = stats.linregress(predicted.numpy(), label.numpy())[0]
    assert label_metrics.calibration_slope(predicted, label) == pytest.approx(expected, abs=1e-5)
    # Predictions twice as far apart as the labels: half the slope.
    assert label_metrics.calibration_slope(2 * label, label) == pytest.approx(1 / 2)
    assert math.isnan(label_metrics.calibration_slope(torch.ones(300), label))


def test_the_slope_of_clicks_agrees_with_a_logistic_regression():
    from sklearn.linear_model import LogisticRegression

    logit = 2 * torch.randn(500, generator=seeded(9))
    label = (torch.rand(500, generator=seeded(10)) < torch.sigmoid(0.6 * logit)).float()
    oracle = LogisticRegression(C=1e9, tol=1e-8).fit(logit.unsqueeze(1).numpy(), label.numpy())
    found = label_metrics.logistic_slope(logit, label)
    assert found == pytest.approx(oracle.coef_.item(), abs=1e-3)


@pytest.mark.parametrize(
    ("logit", "label"),
    [
        (torch.zeros(4), torch.tensor([0.0, 1.0, 0.0, 1.0])),
        (torch.tensor([1.0, 2.0, 3.0, 4.0]), torch.ones(4)),
        (torch.tensor([-2.0, -1.0, 1.0, 2.0]), torch.tensor([0.0, 0.0, 1.0, 1.0])),
    ],
    ids=["constant", "one kind", "separated"],
)
def test_a_slope_of_clicks_that_does_not_exist_is_nan(logit: Tensor, label: Tensor):
    assert math.isnan(label_metrics.logistic_slope(logit, label))


def test_a_constant_correlates_with_nothing_and_nothing_correlates_with_a_constant():
    label, same = row(1, 2, 3, 4), row(2, 2, 2, 2)
    for correlation in (label_metrics.pearson, label_metrics.spearman):
        assert correlation(same, label, ALL).item() == 0
        assert math.isnan(correlation(label, same, ALL).item())
    none = torch.zeros(1, 4, dtype=torch.bool)
    assert math.isnan(label_metrics.auc(label, none, ALL).item())
    assert math.isnan(label_metrics.auc(label, ~none, ALL).item())


# The four predictors that tell an honest metric from a broken one.
TASKS, ENTRIES = 400, 30


def predictors() -> tuple[Tensor, dict[str, Tensor]]:
    taste = 3 + torch.randn(TASKS, 1, generator=seeded(11))
    label = (taste + torch.randn(TASKS, ENTRIES, generator=seeded(12))).round().clamp(1, 5)
    return label, {
        "random": 1 + 4 * torch.rand(TASKS, ENTRIES, generator=seeded(13)),
        "constant": torch.full_like(label, label.mean().item()),
        "user mean": label.mean(1, keepdim=True).expand(-1, ENTRIES),
        "perfect": label,
    }


def test_errors_put_the_four_predictors_in_their_order():
    label, named = predictors()
    mask = torch.ones_like(label, dtype=torch.bool)
    for error in (label_metrics.rmse, label_metrics.mae):
        found = {name: error(one, label, mask).mean().item() for name, one in named.items()}
        assert found["perfect"] == 0
        assert found["perfect"] < found["user mean"] < found["constant"] < found["random"]


def test_what_knows_nothing_of_items_has_no_correlation_and_an_auc_of_a_half():
    label, named = predictors()
    mask = torch.ones_like(label, dtype=torch.bool)
    usable = mask & (label.amax(1) >= 4).unsqueeze(1) & (label.amin(1) < 4).unsqueeze(1)
    rows = usable.all(1)
    for name, one in named.items():
        level = 1.0 if name == "perfect" else 0.0
        for correlation in (label_metrics.pearson, label_metrics.spearman):
            found = correlation(one[rows], label[rows], mask[rows]).mean().item()
            assert found == pytest.approx(level, abs=0.03)
        found = label_metrics.auc(one[rows], label[rows] >= 4, mask[rows]).mean().item()
        assert found == pytest.approx((1 + level) / 2, abs=0.03)
