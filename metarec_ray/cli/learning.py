"""From a log to a table: quickstart, prepare, train, distil, tune, evaluate, status, report ..."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from metarec_ray.cli.arguments import (
    ConfigFile,
    Json,
    Overrides,
    absolute,
    data_folder,
    listed,
    local_path,
    place,
    say,
    show,
)

if TYPE_CHECKING:
    from metarec_ray.config.experiment import Experiment


def quickstart(
    data: Annotated[
        str, typer.Option(help="`synthetic`, a data set's name, or a file or folder.")
    ] = "synthetic",
    out: Annotated[
        Path, typer.Option(parser=local_path, metavar="DIR", help="The run's folder.")
    ] = Path("runs/quickstart"),
    as_json: Json = False,
) -> None:
    """Do everything once on this machine: data, training, table, sweep, endpoint, report."""
    from metarec_ray.engine.cluster.one_writer import one_writer
    from metarec_ray.engine.quickstart import quickstart as run

    with one_writer(out):
        summary = run(data, out, data_dir=data_folder(), progress=say)
    show(summary, as_json, str(summary.get("text", out)))


def prepare(config: ConfigFile, sets: Overrides = None, as_json: Json = False) -> None:
    """Turn an interaction log into a task store; a second run changes nothing."""
    from metarec_ray.config.experiment import load, require_log

    experiment = load(config, listed(sets))
    require_log(experiment, config)
    from metarec_ray.engine.cluster.writing import writing_store
    from metarec_ray.engine.prepare.driver import prepare as run

    with writing_store(experiment, say):
        manifest = run(experiment.data, experiment.store, data_dir=data_folder(), progress=say)
    show({"store": experiment.store_place, **manifest.summary()}, as_json)


def train(config: ConfigFile, sets: Overrides = None, as_json: Json = False) -> None:
    """Meta-train on a task store; the same command again resumes."""
    from metarec_ray.config.experiment import load

    _train(load(config, listed(sets)), config, as_json)


def distil(
    teacher: Annotated[
        str,
        typer.Argument(
            metavar="TEACHER",
            parser=place,
            help="A run's folder or a checkpoint, of any learner or blend.",
            show_default=False,
        ),
    ],
    config: ConfigFile,
    sets: Overrides = None,
    as_json: Json = False,
) -> None:
    """Train with a teacher's answers beside the labels: `train` with `train.teacher`."""
    from metarec_ray.config.experiment import load

    # Absolute: the path is of this command line, whatever the paths of the file begin with.
    asked = [*listed(sets), f"train.teacher={absolute(teacher)}"]
    _train(load(config, asked), config, as_json)


def _train(experiment: "Experiment", config: Path, as_json: bool) -> None:
    """Train, and print the checkpoint with its metrics."""
    from metarec_ray.config.experiment import require_log

    if experiment.run.store is None:
        require_log(experiment, config)
    from metarec_ray.engine.cluster.session import ray_session
    from metarec_ray.engine.cluster.writing import writing
    from metarec_ray.engine.train.driver import train as run
    from metarec_ray.storage.places import named

    with writing(experiment, say), ray_session():
        result = run(experiment, data_dir=data_folder(), progress=say)
    show(
        {
            "checkpoint": named(result.checkpoint),
            "parameters_sha256": result.parameters_sha256,
            **result.metrics,
        },
        as_json,
    )


def tune(
    config: ConfigFile,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue an interrupted sweep.")
    ] = False,
    sets: Overrides = None,
    as_json: Json = False,
) -> None:
    """Sweep over the keys of `sweep.space`; write best.yaml, which `metarec train` takes."""
    from metarec_ray.config.experiment import load, require_log

    experiment = load(config, listed(sets))
    if experiment.run.store is None:
        require_log(experiment, config)
    from metarec_ray.engine.cluster.session import ray_session
    from metarec_ray.engine.cluster.writing import writing
    from metarec_ray.engine.tune.driver import sweep as run

    with writing(experiment, say), ray_session():
        result = run(experiment, resume=resume, data_dir=data_folder(), progress=say)
    show(result._asdict(), as_json, str(result.best))


def evaluate(
    target: Annotated[
        str,
        typer.Argument(
            metavar="CHECKPOINT|RUN|CONFIG",
            parser=place,
            help="What to judge.",
            show_default=False,
        ),
    ],
    protocol: Annotated[str, typer.Option(help="How users and events are held out.")] = "strict",
    rivals_only: Annotated[
        bool, typer.Option("--rivals-only", help="The table without a learner.")
    ] = False,
    sets: Overrides = None,
    as_json: Json = False,
) -> None:
    """Print the table: floors, rivals and learner on users that training has never seen."""
    from metarec_ray.engine.evaluate import evaluate as run

    result = run(
        target,
        protocol=protocol,
        rivals_only=rivals_only,
        overrides=listed(sets),
        data_dir=data_folder(),
        progress=say,
    )
    show({"rows": result.rows}, as_json, result.text)


def status(
    run: Annotated[
        str,
        typer.Argument(
            metavar="RUN|JOB",
            parser=place,
            help="A run's folder or URI; with --address also a job.",
            show_default=False,
        ),
    ],
    address: Annotated[
        str | None,
        typer.Option(metavar="URL", help="Ask the head of this cluster, not this machine."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Say whether a run moves: its state, step, newest checkpoint, nodes and last failure."""
    if address is not None:
        print(_asked_there(run, address, as_json))
        return
    from metarec_ray.engine.train.status import status as find
    from metarec_ray.storage.places import at_hand

    found = find(at_hand(run))
    show(found._asdict(), as_json, found.sentence())


def _asked_there(run: str, address: str, as_json: bool) -> str:
    from metarec_ray.engine.cluster.job import find_target
    from metarec_ray.engine.jobs import remote
    from metarec_ray.engine.jobs.client import connect

    target = find_target(address, os.environ)
    jobs = connect(target.address)
    return remote.status(jobs, target.python, run, absolute(run), as_json=as_json)


def report(
    run: Annotated[
        str,
        typer.Argument(
            metavar="RUN", parser=place, help="A run's folder or URI.", show_default=False
        ),
    ],
    as_json: Json = False,
) -> None:
    """Write the run's report: one HTML file that needs no network."""
    from metarec_ray.report.write import write_report
    from metarec_ray.storage.places import at_hand, bring

    path = write_report(at_hand(run))
    bring(path)
    show({"report": path}, as_json, str(path))


def config(config: ConfigFile, sets: Overrides = None, as_json: Json = False) -> None:
    """Print the whole experiment, defaults included, as YAML that every verb takes."""
    from metarec_ray.config.experiment import dump, load

    experiment = load(config, listed(sets))
    show(experiment.model_dump(mode="json"), as_json, dump(experiment).rstrip())
