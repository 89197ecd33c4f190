"""Sessions: a history is cut at long gaps, and each session is an entity of its own.

The id of a session is that of its entity and the microsecond of its first event when it was cut:
`alice@1700000000000000`. Knows rows of one bucket; does not know tasks.
"""

import polars as pl

from metarec_ray.data.settings import Data

MARK = "@"
_MICROSECONDS = 1_000_000


def cut(rows: pl.DataFrame, settings: Data) -> pl.DataFrame:
    """Return rows with their session as `entity`, in any order; without a gap, the rows unchanged.

    `rows` may have a `session`, null for new events (see `with_session`): old sessions stay as they
    are. A new event that links two of them joins the first.
    """
    if settings.session_gap is None:
        return rows
    if "session" not in rows.columns:
        rows = rows.with_columns(session=pl.lit(None, pl.String))
    gap = round(settings.session_gap * _MICROSECONDS)
    # Nulls last: a new event joins an old session at the same instant.
    rows = rows.sort("entity", "time", "session", nulls_last=True)
    begins = (pl.col("time").diff() > gap) | (pl.col("entity") != pl.col("entity").shift(1))
    runs = rows.with_columns(run=begins.fill_null(True).cum_sum())
    old = pl.col("session").forward_fill().backward_fill().over("run")
    fresh = (
        pl.col("entity").cast(pl.String) + MARK + pl.col("time").first().over("run").cast(pl.String)
    )
    return runs.with_columns(entity=pl.coalesce(old, fresh)).drop("run", "session")


def with_session(rows: pl.DataFrame, dtype: pl.DataType) -> pl.DataFrame:
    """Return rows whose `entity` is a session, with that as `session` and its entity beside it."""
    return rows.with_columns(session="entity", entity=entity_of(pl.col("entity"), dtype))


def entity_of(session: pl.Expr, dtype: pl.DataType) -> pl.Expr:
    """Return the id of the entity that a session is of, in the type `dtype`."""
    return session.str.replace(f"{MARK}-?\\d+$", "").cast(dtype)
