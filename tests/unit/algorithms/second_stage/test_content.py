"""How much an item is like the support: cosines by hand, field by field."""

import torch
from torch import Tensor

from metarec_ray.algorithms.second_stage.content import FIELDS, content, content_features
from metarec_ray.algorithms.second_stage.shortlist import Shortlist
from metarec_ray.core.batch import Features, FieldSpan, SideInformation, nothing_known

# Rows: 0 pads, 1 an unknown genre, 2 to 4 genres, 5 an unknown studio, 6 and 7 studios.
GENRE, STUDIO = FieldSpan("genre", True, 1, 5), FieldSpan("studio", True, 5, 8)
YEAR, VECTOR, LENGTH = (
    FieldSpan("year", False, 0, 1),
    FieldSpan("vector", False, 1, 3),
    FieldSpan("length", False, 3, 4),
)
HALF = 0.5**0.5
ITEMS = SideInformation(
    Features(
        tokens=torch.tensor([[2, 3, 6], [2, 0, 6], [3, 4, 7], [1, 0, 5], [1, 0, 5], [4, 0, 7]]),
        weights=torch.tensor(
            [[HALF, HALF, 1], [1, 0, 1], [HALF, HALF, 1], [1, 0, 1], [1, 0, 1], [1, 0, 1.0]]
        ),
        dense=torch.tensor([[float(i), 7.0, -7.0, 0.5 * i * i] for i in range(6)]),
    ),
    (GENRE, YEAR, STUDIO, VECTOR, LENGTH),
    8,
)


def asked(items: list[list[int]], supports: list[list[int]], *, padding: int = 0) -> Shortlist:
    """Lists of like length; what padding holds must not matter."""
    longest = max(1, *(len(one) for one in supports)) + padding
    support = torch.tensor([one + [5] * (longest - len(one)) for one in supports])
    length = torch.tensor([len(one) for one in supports])
    item = torch.tensor(items)
    nobody = torch.zeros(len(items), 0)
    return Shortlist(
        item=item,
        real=torch.ones_like(item, dtype=torch.bool),
        score=torch.zeros(item.shape),
        parts=torch.zeros(1, *item.shape),
        support=support,
        mask=torch.arange(longest) < length.unsqueeze(1),
        time=torch.zeros_like(support),
        user=Features(nobody.long(), nobody, nobody),
    )


def features(items: list[list[int]], supports: list[list[int]], *, padding: int = 0) -> Tensor:
    return content_features(content(ITEMS), asked(items, supports, padding=padding))


def test_likeness_is_the_mean_cosine_of_each_field() -> None:
    # Genres of item 0 are (1, 1, 0) / sqrt 2, of 1 (1, 0, 0), of 2 (0, 1, 1) / sqrt 2, of 5 the
    # third. Studios agree or not.
    found = features([[0, 1, 2, 5], [0, 2, 2, 1]], [[1, 2], [0, 0, 5]])[..., :2]
    genre = [[(HALF + 0.5) / 2, 0.5, 0.5, HALF / 2], [2 / 3, (1 + HALF) / 3, 0, 2 * HALF / 3]]
    genre[1][2] = genre[1][1]
    studio = [[0.5, 0.5, 0.5, 0.5], [2 / 3, 1 / 3, 1 / 3, 2 / 3]]
    torch.testing.assert_close(found, torch.tensor([genre, studio]).movedim(0, -1))


def test_weights_of_any_length_are_brought_to_a_norm_of_one() -> None:
    longer = ITEMS._replace(features=ITEMS.features._replace(weights=ITEMS.features.weights * 3))
    lists = asked([[0, 1, 2]], [[1, 2, 0]])
    torch.testing.assert_close(
        content_features(content(longer), lists), content_features(content(ITEMS), lists)
    )


def test_what_is_not_known_is_like_nothing() -> None:
    found = features([[3, 4, 0]], [[3, 4]])[..., :2]
    assert not found.any()
    # It is a share of the support all the same.
    torch.testing.assert_close(features([[1]], [[1, 3]])[0, 0, :2], torch.tensor([0.5, 0.5]))


def test_numbers_are_held_against_the_newest_and_against_the_mean() -> None:
    # Year i and length i i / 2; a vector is no number.
    found = features([[0, 5]], [[1, 4]])[0, :, 2:]
    right = [[4.0, 8.0, 0 - 2.5, 0 - 4.25], [1.0, 4.5, 5 - 2.5, 12.5 - 4.25]]
    torch.testing.assert_close(found, torch.tensor(right))


def test_an_empty_support_is_like_nothing() -> None:
    for padding in (0, 3):
        found = features([[0, 5], [1, 2]], [[], [1]], padding=padding)
        assert found.shape == (2, 2, 6)
        assert not found[0].any()
        assert bool(found[1].any())


def test_padding_of_the_support_changes_nothing() -> None:
    items, supports = [[0, 5, 2], [1, 2, 3], [4, 4, 1]], [[2, 1, 0], [5], [3, 0]]
    plain = features(items, supports)
    torch.testing.assert_close(features(items, supports, padding=4), plain)
    alone = [features([i], [s])[0] for i, s in zip(items, supports, strict=True)]
    torch.testing.assert_close(torch.stack(alone), plain)


def test_items_of_which_nothing_is_known_have_no_columns() -> None:
    found = content_features(content(nothing_known(6)), asked([[0, 1]], [[2]]))
    assert found.shape == (1, 2, 0)


def test_of_many_fields_the_first_of_each_kind_are_compared() -> None:
    count = FIELDS + 3
    fields = [FieldSpan(f"tag {n}", True, 1 + 2 * n, 3 + 2 * n) for n in range(count)]
    numbers = [FieldSpan(f"number {n}", False, n, n + 1) for n in range(count)]
    tokens = torch.arange(count).expand(6, -1) * 2 + 2  # every item has the value of every field
    known = Features(tokens, torch.ones(6, count), torch.arange(6.0)[:, None].expand(-1, count))
    side = SideInformation(known, tuple(fields + numbers), 1 + 2 * count)
    found = content_features(content(side), asked([[0, 3]], [[1]]))
    right = [[1.0] * FIELDS + [1.0] * FIELDS + [-1.0] * FIELDS]
    right += [[1.0] * FIELDS + [2.0] * FIELDS + [2.0] * FIELDS]
    torch.testing.assert_close(found[0], torch.tensor(right))
