"""A trained learner with its catalogue: raw ids in, ranked raw ids out.

Knows one checkpoint. Evaluation and the endpoint use the same object, and adaptation runs the same
code as training.
"""

import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow.parquet as pq
import torch
from torch import Tensor

from metarec_ray import checkpoint as checkpoints
from metarec_ray.checkpoint import BUFFER, Checkpoint
from metarec_ray.config.experiment import Experiment, parse
from metarec_ray.core.batch import Features
from metarec_ray.core.ranking import top_k
from metarec_ray.data.fields import FeatureField
from metarec_ray.data.settings import Feedback
from metarec_ray.data.tasks.features import FeatureSpace, encode_record, stack
from metarec_ray.data.tasks.further_labels import LabelSpace
from metarec_ray.errors import NotFinite, RequestError
from metarec_ray.inference.limits import MAX_SUPPORT
from metarec_ray.inference.metadata import label_rules, metadata
from metarec_ray.inference.predictor import Predictor, predictor_of
from metarec_ray.inference.rankings import RankedItem, Ranking
from metarec_ray.inference.retrieval import Best, Retriever
from metarec_ray.inference.supports import Supports
from metarec_ray.inference.two_stage import Catalogue, TwoStage, first_stage_model, two_stage_of


class SupportEvent(NamedTuple):
    """An event of a user: item, label, context, time and further labels.

    The events of a support are in order, oldest first; `time` is in microseconds, 0 if unknown.
    `labels` are further labels by name, numbers as the log has them.
    """

    item: str
    label: float = 1.0
    context: Mapping[str, Any] = {}
    time: int = 0
    labels: Mapping[str, Any] = {}


class Recommender:
    """A learner, its meta-parameters and its encoded catalogue."""

    def __init__(self, checkpoint: Checkpoint, *, name: str = "default", version: str = "0"):
        """Rebuild from a checkpoint everything that a request needs."""
        self.name, self.version = name, version
        self.experiment: Experiment = parse(checkpoint.config, "config.json of the checkpoint")
        self.feedback: Feedback = checkpoint.schema["feedback"]
        self.rules = label_rules(self.experiment, checkpoint)
        self.vocabularies = checkpoint.schema["vocabularies"]
        known = {
            side: [FeatureField.model_validate(field) for field in fields]
            for side, fields in checkpoint.schema["features"].items()
        }
        self.labels = LabelSpace(known.pop("label", []))
        self.spaces = {side: FeatureSpace(fields) for side, fields in known.items()}
        self.fields: Mapping[str, Sequence[str]] = {
            side: [field.name for field in space.fields] for side, space in self.spaces.items()
        } | {"label": self.labels.names}
        self.nothing = {side: space.missing() for side, space in self.spaces.items()}
        features = self._read_catalogue(checkpoint)
        first = predictor_of(
            self.experiment,
            first_stage_model(checkpoint.model),
            self.feedback,
            features,
            user_tokens=self.spaces["user"].tokens,
        )
        catalogue = Catalogue(self.trained, self.by_id)
        self.predictor: Predictor = first
        self.retriever: Retriever | TwoStage
        stage = self.experiment.second_stage
        if stage is None:
            self.retriever = Retriever(first, *catalogue)
        else:
            self.retriever = two_stage_of(first, checkpoint.model, self.feedback, catalogue, stage)
            self.predictor = self.retriever
        self.metadata = metadata(self.experiment, checkpoint, self.rules, items=len(self.ids))

    @classmethod
    def load(cls, path: Path, *, name: str | None = None) -> "Recommender":
        """Return the recommender of a checkpoint; CheckpointError if any byte is not as written."""
        loaded = checkpoints.load(path)
        version = f"{loaded.state['step']}-{checkpoints.parameters_sha256(loaded.model)[:8]}"
        return cls(loaded, name=name or loaded.config["serve"]["name"], version=version)

    @property
    def method(self) -> str:
        """Name of the learner in a table."""
        return self.metadata["algorithm"]["name"]

    @property
    def kind(self) -> str:
        """Kind of the learner in a table: floor, rival or learner."""
        asked = self.experiment
        joins = bool(asked.blend.members) or asked.second_stage is not None
        return "learner" if joins else asked.algorithm.kind

    def knows(self, item_id: str) -> bool:
        """Return whether an item is in the catalogue."""
        return item_id in self.rows

    def rank(
        self,
        support: Sequence[SupportEvent],
        candidates: Sequence[str] | None = None,
        *,
        k: int = 10,
        user_fields: Mapping[str, Any] | None = None,
        context: Mapping[str, Any] | None = None,
        exclude_seen: bool = True,
    ) -> Ranking:
        """Return the `k` best of `candidates` (None: the catalogue) for a user with these events.

        Adapts on the known support items, oldest first; an empty support gives the prior, and so
        does one after which scores are not finite. Ties are broken by id. Candidates that are not
        known go last with a null score.

        Raises:
            RequestError: k < 1, too many events, a label that is not finite, an unknown field or
                further label.
            NotFinite: the scores of the prior are NaN or infinite.

        """
        if k < 1 or len(support) > MAX_SUPPORT:
            raise RequestError(
                f"k must be >= 1 and support <= {MAX_SUPPORT} events, got {k} and {len(support)}"
            )
        known = [event for event in support if event.item in self.rows]
        unknown = [place for place, event in enumerate(support) if event.item not in self.rows]
        hidden = {event.item for event in support} if exclude_seen else set[str]()

        def best(events: list[SupportEvent]) -> list[RankedItem]:
            supports = self._supports(events, user_fields or {}, context or {})
            if candidates is None:
                return self._rank_catalogue(supports, hidden, k)
            given = [c for c in dict.fromkeys(candidates) if c not in hidden]
            return self._rank_given(supports, given, k)

        try:
            return Ranking(best(known), bool(known), len(known), unknown)
        except NotFinite:
            if not known:
                raise
        return Ranking(best([]), False, 0, unknown, diverged=True)

    def scores(self, supports: Supports, *, items: Tensor | None = None) -> Tensor:
        """Return scores after adapting on each support set: of the whole catalogue, [T, I].

        With `items`, catalogue rows int64 [T, Q], only of each task's own.
        """
        return self.predictor.scores(supports, items=items)

    def adapted(self) -> int:
        """Return how many numbers adapting to one event computes, 0 for none."""
        return self.predictor.adapted(self._supports([SupportEvent(self.ids[0])], {}, {}))

    def _read_catalogue(self, checkpoint: Checkpoint) -> Features:
        table = pq.read_table(io.BytesIO(checkpoint.catalogue)).sort_by("item")
        self.ids: list[str] = table["id"].to_pylist()
        self.titles: list[str | None] = table["title"].to_pylist()
        self.rows = {item: row for row, item in enumerate(self.ids)}
        self.trained = checkpoint.model[BUFFER + "trained"].bool()
        # Rank of every row's id in sorted order: ties are broken by id.
        order = sorted(range(len(self.ids)), key=self.ids.__getitem__)
        self.by_id = torch.empty(len(order), dtype=torch.int64)
        self.by_id[torch.tensor(order, dtype=torch.int64)] = torch.arange(len(order))
        space = self.spaces["item"]
        return space.encode({field.name: table[field.name] for field in space.fields}, len(table))

    def _supports(
        self, known: list[SupportEvent], user_fields: Mapping, context: Mapping
    ) -> Supports:
        labels = torch.tensor([float(event.label) for event in known] or [0.0])
        if not bool(torch.isfinite(labels).all()):
            raise RequestError(f"labels of the support must be finite, got {labels.tolist()}")
        if self.feedback == "binary" and known and bool(((labels != 0) & (labels != 1)).any()):
            raise RequestError(f"labels of clicks must be 0 or 1, got {labels.tolist()}")
        nothing = self.nothing["context"]
        rows = [self._record("context", event.context) for event in known] or [nothing]
        return Supports(
            item=torch.tensor([[self.rows[event.item] for event in known] or [0]]),
            label=labels[None],
            mask=torch.full((1, len(labels)), bool(known)),
            time=torch.tensor([[event.time for event in known] or [0]]),
            context=Features(*(column[None] for column in stack(rows))),
            user=self._record("user", user_fields),
            now=Features(*(column[None] for column in self._record("context", context))),
            labels=self.labels.records([event.labels for event in known] or [{}])[None],
        )

    def _record(self, side: str, fields: Mapping[str, Any]) -> Features:
        if not fields:
            return self.nothing[side]
        return encode_record(self.spaces[side], self.vocabularies[side], fields, side)

    def _rank_catalogue(self, supports: Supports, hidden: set[str], k: int) -> list[RankedItem]:
        # What the support holds is taken out by the retriever; the prior's holds nothing.
        told = bool(supports.mask.any())
        more = 0 if told else len(hidden)
        best = self.retriever.best(supports, k + more, exclude_seen=told and bool(hidden))[0]
        return [item for item in self._items(supports, best) if item.id not in hidden][:k]

    def _rank_given(self, supports: Supports, given: list[str], k: int) -> list[RankedItem]:
        rows = torch.tensor([self.rows[c] for c in given if c in self.rows], dtype=torch.int64)
        known: list[RankedItem] = []
        if len(rows):
            scores = self.scores(supports, items=rows[None])[0]
            order = top_k(scores, self.by_id[rows], min(k, len(rows)))
            finite = bool(scores.isfinite().all())
            known = self._items(supports, Best(rows[order], scores[order], finite))
        unknown = [RankedItem(c, None, None, cold=True) for c in given if c not in self.rows]
        return (known + sorted(unknown))[:k]

    def _items(self, supports: Supports, best: Best) -> list[RankedItem]:
        if not best.finite:
            raise NotFinite(
                f"scores must be finite, {self.name} {self.version} gives NaN or infinite ones"
            )
        trained = self.trained[best.rows].tolist()
        places = best.rows.tolist(), best.scores.tolist(), trained, self._stds(supports, best.rows)
        return [
            RankedItem(self.ids[row], self.titles[row], score, not trained, std)
            for row, score, trained, std in zip(*places, strict=True)
        ]

    def _stds(self, supports: Supports, rows: Tensor) -> list[float | None]:
        found = self.predictor.stds(supports, rows[None]) if len(rows) else None
        if found is None:
            return [None] * len(rows)
        return [std if math.isfinite(std) else None for std in found[0].tolist()]
