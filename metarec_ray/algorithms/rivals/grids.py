"""Hyper-parameter grids of rivals, tuned on validation users: at most twelve candidates each.

Knows fields and values; does not know how candidates are compared. A learner's candidates are the
product of its values; other fields keep their defaults.
"""

from collections.abc import Mapping

Value = int | float | None

GRIDS: Mapping[str, Mapping[str, tuple[Value, ...]]] = {
    "recency_popularity": {
        "half_life_days": (20.0, 40.0, 83.0, 160.0),
        "first_position": (0, 5),
    },
    "user_item_bias": {"item_shrink": (1.0, 3.0, 10.0), "user_shrink": (2.0, 4.0, 8.0, 16.0)},
    "item_knn": {"shrink": (0.0, 20.0, 100.0), "neighbours": (None, 50, 200, 500)},
    "user_knn": {"shrink": (0.0, 5.0, 20.0), "neighbours": (50, 100, 300, 1000)},
    "user_knn_ratings": {
        "shrink": (10.0, 30.0),
        "neighbours": (100, 300, 1000),
        "damping": (0.5, 2.0),
    },
    "sequence_neighbours": {
        "neighbours": (300, 1000),
        "decay": (0.8, 0.9),
        "recency_floor": (0.3, 0.6, 1.0),
    },
    "ease": {"penalty": (30.0, 100.0, 200.0, 300.0, 500.0, 1000.0, 2000.0, 4000.0)},
    "ease_popularity": {
        "penalty": (100.0, 300.0, 1000.0, 2000.0, 4000.0, 8000.0),
        "half_life_days": (None, 83.0),
    },
    "item_knn_popularity": {
        "shrink": (1.0, 5.0, 20.0, 50.0),
        "half_life_days": (None, 40.0, 83.0),
    },
    "ials": {"unobserved": (0.1, 0.2, 0.3), "penalty": (0.01, 0.015, 0.02, 0.03)},
    "mf_fold_in": {
        "factors": (16, 32),
        "penalty": (5.0, 8.0, 12.0),
        "bias_penalty": (3.0, 6.0),
    },
    "bpr": {"penalty": (0.003, 0.01), "factors": (64, 128), "prior": (0.1, 0.2, 0.5)},
    "lightgcn": {"penalty": (3e-4, 1e-3, 3e-3), "layers": (2, 3)},
    "content_ridge": {
        "penalty": (5.0, 10.0, 20.0, 40.0),
        "item_penalty": (3.0, 10.0, 30.0),
    },
    "content_profile": {"strength": (1.0, 2.0, 4.0, 8.0), "shrink": (0.0, 2.0, 5.0)},
    "dropoutnet": {"shrink": (1.0, 3.0, 6.0), "dropout": (0.3, 0.5), "epochs": (30, 60)},
    "two_tower": {"inner_lr": (0.1, 0.3), "inner_steps": (1, 3, 10)},
}
