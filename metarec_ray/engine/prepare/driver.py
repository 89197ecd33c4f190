"""Build a task store on a Ray cluster: `data.store.pipeline`, with its units spread over nodes.

Ray Data reads and checks the chunks of the log; Ray tasks then group and write the buckets. `data`
knows what is done to rows; this module knows where. Every worker must be able to write to the
store's folder: rows travel through it, not through the memory of Ray. A store that is made in a
working copy is made by the node that has it. Ray is started if there is work to do and the caller
has not started it.
"""

import json
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import ray.data

from metarec_ray.data.log import sources
from metarec_ray.data.log.sources import Source
from metarec_ray.data.settings import Data
from metarec_ray.data.store import pipeline, versions, writing
from metarec_ray.data.store.append import append as add
from metarec_ray.data.store.manifest import Manifest, load, verify
from metarec_ray.data.store.planning import Run
from metarec_ray.data.store.stages import Done
from metarec_ray.engine.cluster.parallel import as_they_end, where
from metarec_ray.engine.cluster.session import ray_session
from metarec_ray.engine.nodes import require_cpus, require_shared
from metarec_ray.engine.prepare import table_formats
from metarec_ray.errors import DataError, MetarecError

Progress = Callable[[str], None]


def prepare(
    settings: Data, store_path: Path, *, data_dir: Path | None, progress: Progress
) -> Manifest:
    """Bring the store at `store_path` up to date with the log and return its manifest.

    Does nothing if settings and input are those of the store. Otherwise a new version is built and
    published at the end; after an error the present one stays.
    """
    log = _log(settings, data_dir)
    present = _present(log, store_path)
    if present is not None:
        progress(f"prepare: {store_path} is up to date, {present.tasks} tasks")
        return present
    with ray_session(), log.files(store_path) as source:
        _begin(store_path)
        return pipeline.build(source, store_path, _run(store_path, progress))


def append(
    settings: Data,
    store_path: Path,
    *,
    since: int | None,
    data_dir: Path | None,
    progress: Progress,
) -> Manifest:
    """Add the log's events from `since` on (microseconds) to a store; see `data.store.append`."""
    log = _log(settings, data_dir)
    with ray_session(), log.files(store_path) as source:
        _begin(store_path)
        return add(source, store_path, _run(store_path, progress), since=since)


def _run(store: Path, progress: Progress) -> Run:
    return Run(partial(read, folder=store), partial(each, folder=store), progress)


def read(
    function: Callable[[Any], Done], chunks: Sequence[Any], *, folder: Path | None = None
) -> Iterator[Done]:
    """Yield `function` of every chunk of a log, as they end; a chunk is a block of a Ray data set.

    With a `folder`, what runs does so where that is seen.

    Raises:
        DataError: of the first chunk that could not be read.
        OSError: the disk that a unit wrote to is full, or may not be written.

    """
    chunks = list(chunks)

    def run(batch: pa.Table) -> pa.Table:
        # Ray wraps what a function raises: the sentence travels as a row instead.
        found, errors = [], []
        for number in batch["id"].to_pylist():
            try:
                found.append(function(chunks[number]).dump())
            except DataError as error:
                errors.append(json.dumps([str(error)]))
            except OSError as error:
                errors.append(json.dumps([error.errno, error.strerror or str(error)]))
        columns = [found + [None] * len(errors), [None] * len(found) + errors]
        return pa.table([pa.array(one, pa.string()) for one in columns], ["done", "error"])

    dataset = ray.data.range(len(chunks), override_num_blocks=len(chunks))
    dataset = dataset.map_batches(run, batch_format="pyarrow", batch_size=1, **where(folder))
    for row in dataset.iter_rows():
        if row["error"] is not None:
            said = json.loads(row["error"])
            raise OSError(*said) if len(said) > 1 else DataError(*said)
        yield Done.load(row["done"])


def each(
    function: Callable[[Any], Any], units: Sequence[Any], *, folder: Path | None = None
) -> Iterator[Any]:
    """Yield `function` of every unit, as they end; each has one CPU; `folder` as for `read`.

    Raises:
        MetarecError: of the first unit that failed.

    """
    for found in as_they_end(_Guarded(function), units, folder=folder):
        if isinstance(found, MetarecError):
            raise found
        yield found


class _Guarded:
    """A function that returns a MetarecError instead of raising it, because Ray would wrap it."""

    def __init__(self, function: Callable[[Any], Any]):
        self.function = function

    def __call__(self, unit: Any) -> Any:
        try:
            return self.function(unit)
        except MetarecError as error:
            return error


class _Log(NamedTuple):
    """A log: its effective settings, its fingerprint, and what yields it as files.

    `files` takes the path of the store.
    """

    settings: Data
    fingerprint: str
    files: Callable[[Path], AbstractContextManager[Source]]


def _log(settings: Data, data_dir: Path | None) -> _Log:
    if table_formats.is_table(settings):
        known = table_formats.fingerprint(settings)
        files = partial(table_formats.staged, settings, known)
        return _Log(table_formats.effective(settings), known, files)
    source = sources.find(settings, data_dir=data_dir)
    return _Log(source.settings, source.fingerprint, lambda _: nullcontext(source))


def _present(log: _Log, store_path: Path) -> Manifest | None:
    """Return the manifest of a whole store of the same settings and input, else None."""
    try:
        versions.complete(store_path)
        present = load(store_path)
        verify(store_path, present)
    except DataError:
        return None  # there is no store, or no whole one: it is built
    asked = (writing.settings_hash(log.settings), log.fingerprint)
    return present if (present.settings_sha256, present.source_fingerprint) == asked else None


def _begin(store: Path) -> None:
    """Ask of the nodes what units need, and be quiet."""
    require_cpus(1, 1, key="a unit of prepare")
    require_shared(store, None)
    _quieten()


def _quieten() -> None:
    """Silence Ray Data's progress bars and its log of each execution; we report progress."""
    ray.data.DataContext.get_current().enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.WARNING)
    # It warns that the bars, just switched off, are off.
    logging.getLogger("ray.data._internal.progress").setLevel(logging.ERROR)
