"""Every error a user can cause, as one tree.

::

    MetarecError(ValueError)     the input or the request is wrong: exit code 2, or a 4xx
    |- ConfigError               a configuration file, key or value
    |- DataError                 a log, a feature table or a task store
    |- CheckpointError           a checkpoint that is missing, torn or altered
    |- RequestError              a question put to a served model
    `- MachineError              the machine: a port, a disk, a missing extra
    RunFailed(RuntimeError)      the input was fine and the run still failed: exit code 1
    `- NotFinite                 a model answered with what is no number

A message is one sentence that holds the rule, the offending value and the place:
``algorithm.inner_lr must be > 0, got -1 (jobs/configs/smoke.yaml)``.
"""


class MetarecError(ValueError):
    """What a user can mend; its message is one sentence."""


class ConfigError(MetarecError):
    """A configuration file, key or value is wrong."""


class DataError(MetarecError):
    """A log, a feature table or a task store is wrong."""


class CheckpointError(MetarecError):
    """A checkpoint is missing, torn or altered."""


class RequestError(MetarecError):
    """A question put to a model cannot be answered as asked."""


class MachineError(MetarecError):
    """The machine lacks something: a port, disk space, an optional package."""


class RunFailed(RuntimeError):
    """The input was fine and the run failed all the same."""


class NotFinite(RunFailed):
    """A model's scores are NaN or infinite: nothing can be ranked, judged or chosen by them."""


def last_line(error: object, otherwise: str) -> str:
    """Return the last line of an error's text, which names it; the others are a traceback.

    >>> last_line(ValueError("no such thing"), "an error"), last_line(None, "an error")
    ('no such thing', 'an error')
    """
    lines = [line.strip() for line in str(error or "").splitlines() if line.strip()]
    return lines[-1] if lines else otherwise
