import torch

from metarec_ray.algorithms.in_context.shared import gap_vectors


def test_gaps_fall_into_buckets_of_seconds():
    # Since the one before: 0, 0, 1, 8, ...
    seconds = torch.tensor([5, 5, 6, 14, 24, 54, 174, 3774])
    table = torch.arange(6.0)[:, None]
    # Gaps 0, 0, 1, 8, 10, 30, 120, 3600: edges belong to the bucket above.
    expected = torch.tensor([0, 0, 1, 1, 2, 3, 4, 5.0])[:, None]
    torch.testing.assert_close(gap_vectors(table, seconds * 1_000_000), expected)
