"""Delta and Iceberg tables: Ray reads them into Parquet files, which are prepared like any log.

Knows the present snapshot of a table; does not know what its columns mean. The caller starts Ray.
"""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import ray.data
from pydantic import JsonValue

from metarec_ray.data.files import file_systems
from metarec_ray.data.files.hashes import sha256_json
from metarec_ray.data.log import sources
from metarec_ray.data.log.sources import Source
from metarec_ray.data.settings import Columns, Data
from metarec_ray.errors import DataError, MachineError

PACKAGES = {"delta": "deltalake", "iceberg": "pyiceberg"}


def is_table(settings: Data) -> bool:
    """Return whether the log is a table, not files."""
    return settings.format in PACKAGES


def effective(settings: Data) -> Data:
    """Return the settings with the roles that are used."""
    return settings.model_copy(update={"columns": settings.columns or Columns()})


def fingerprint(settings: Data) -> str:
    """Return the hash of the table's name and present snapshot.

    Raises:
        MachineError: the package that reads it is not installed.
        DataError: there is no such table.

    """
    snapshot = _asked(settings, _delta_version, _iceberg_snapshot)
    return sha256_json([settings.format, settings.path, snapshot])


@contextmanager
def staged(settings: Data, known: str, store: Path) -> Iterator[Source]:
    """Yield the table as a log of Parquet files beside the store; they are removed on success.

    `known` is the fingerprint of its snapshot.
    """
    folder = store.with_name(f".{store.name}.table-{known[:12]}")
    if not (folder / "done").is_file():
        shutil.rmtree(folder, ignore_errors=True)
        dataset = _asked(settings, _read_delta, _read_iceberg)
        dataset.write_parquet(str(folder / "log"))
        (folder / "done").touch()
    files = settings.model_copy(update={"path": str(folder / "log"), "format": "files"})
    found = sources.find(files)
    own = {"path": settings.path, "format": settings.format}
    yield found._replace(settings=found.settings.model_copy(update=own), fingerprint=known)
    shutil.rmtree(folder)


def _asked(settings: Data, delta: Callable[[Data], Any], iceberg: Callable[[Data], Any]) -> Any:
    """Return the answer of Delta or Iceberg; their errors become one sentence."""
    package = PACKAGES[settings.format]
    if find_spec(package) is None:
        raise MachineError(
            f"data.format {settings.format} needs the package {package}: "
            f"pip install 'metarec_ray[{settings.format}]'"
        )
    try:
        return (delta if settings.format == "delta" else iceberg)(settings)
    except (OSError, ValueError, KeyError, _errors(package)) as error:
        said = file_systems.reason(error)
        raise DataError(
            f"a table must be readable, {settings.format} {settings.path} is not: {said}"
        ) from error


def _errors(package: str) -> type[Exception]:
    if package == "deltalake":
        from deltalake.exceptions import DeltaError  # pyright: ignore[reportMissingImports]

        return DeltaError
    from pyiceberg.exceptions import NoSuchTableError  # pyright: ignore[reportMissingImports]

    return NoSuchTableError


def _delta_version(settings: Data) -> JsonValue:
    from deltalake import DeltaTable  # pyright: ignore[reportMissingImports]

    return DeltaTable(settings.path).version()


def _iceberg_snapshot(settings: Data) -> JsonValue:
    from pyiceberg.catalog import load_catalog  # pyright: ignore[reportMissingImports]

    found = load_catalog().load_table(settings.path).current_snapshot()
    return None if found is None else found.snapshot_id


def _read_delta(settings: Data) -> ray.data.Dataset:
    return ray.data.read_delta(settings.path).select_columns(_columns(settings))


def _read_iceberg(settings: Data) -> ray.data.Dataset:
    table = ray.data.read_iceberg(table_identifier=settings.path)
    return table.select_columns(_columns(settings))


def _columns(settings: Data) -> list[str]:
    return list(dict.fromkeys(sources.columns(effective(settings))))
