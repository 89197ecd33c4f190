"""A line of one of our verbs inside another line: parsed by the verb, written anew for a job.

Knows which verbs a job can run and how their lines are parsed; does not know what they do.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from metarec_ray.cli.arguments import absolute, is_uri
from metarec_ray.errors import ConfigError

if TYPE_CHECKING:
    from metarec_ray.engine.jobs.plan import Line

VERBS = ("prepare", "train", "distil", "tune", "evaluate", "bench", "data append")
"""Those that need a cluster, or are what one is fed with, and end by themselves."""

PLACES = ("target", "teacher")
"""Arguments that are a path or a URI."""

# Whichever click typer brings: what a parser raises for words that it does not take.
UsageError: type[Exception] = typer.BadParameter.__mro__[1]


def read(root: Any, words: Sequence[str]) -> "Line":
    """Return a line as its verb reads it, `root` being the command of all verbs.

    Raises:
        ConfigError: the verb cannot be a job, or it refuses its words.

    """
    from metarec_ray.engine.cluster.job import CONFIG
    from metarec_ray.engine.jobs.plan import Line

    verb, rest = _verb(words)
    command = root
    for word in verb.split():
        command = command.commands[word]
    try:
        context = command.make_context(f"metarec {verb}", list(rest))
    except UsageError as error:
        said = " ".join(error.format_message().split()).rstrip(".")  # type: ignore[attr-defined]
        raise ConfigError(f"metarec {verb} must be able to read its line, got: {said}") from None
    values = {name: _absolute(name, value) for name, value in context.params.items()}
    named = "target" if verb == "evaluate" else "config"
    config = None if verb == "evaluate" and _is_run(values[named]) else Path(values[named])
    if config is not None:
        values[named] = CONFIG
    sets = [str(one) for one in values.pop("sets", None) or ()]
    return Line(verb, [*verb.split(), *_words(command, context, values)], config, sets, values)


def _verb(words: Sequence[str]) -> tuple[str, Sequence[str]]:
    for count in (1, 2):
        verb = " ".join(words[:count])
        if verb in VERBS:
            return verb, words[count:]
    raise ConfigError(f"what is submitted must be one of {', '.join(VERBS)}, got {words[0]!r}")


def _absolute(name: str, value: Any) -> Any:
    if name in PLACES:
        return absolute(value)
    return value.resolve() if isinstance(value, Path) else value


def _is_run(place: str) -> bool:
    return is_uri(place) or Path(place).is_dir()


def _words(command: Any, context: Any, values: dict[str, Any]) -> Iterator[str]:
    """Yield what was typed: arguments, then options; defaults are the job's own."""
    given = [
        one
        for one in command.params
        if one.name in values and context.get_parameter_source(one.name).name == "COMMANDLINE"
    ]
    for one in sorted(given, key=lambda one: one.param_type_name != "argument"):
        if one.param_type_name == "argument":
            yield str(values[one.name])
        elif one.is_flag:
            yield one.opts[0]
        else:
            yield from (one.opts[0], str(values[one.name]))
