"""What this machine has and lacks for a run, and how to mend it.

Knows packages, tokens and variables; imports neither ray nor torch in this process, so that it
works where they do not.
"""

import stat
import subprocess
import sys
import tempfile
from importlib import metadata
from pathlib import Path

import psutil
from packaging.requirements import Requirement

from metarec_ray.engine.cluster import access, leftovers, local_cluster, machine, surroundings
from metarec_ray.engine.cluster.machine import Finding
from metarec_ray.engine.cluster.ports import listening
from metarec_ray.errors import MetarecError

IMPORT_SECONDS = 120
GPUS = (
    "import torch.cuda as cuda; names = map(cuda.get_device_name, range(cuda.device_count())); "
    "print(', '.join(names) or 'none, the CPU is used')"
)


def examine(environ: access.Environ, folder: Path) -> list[Finding]:
    """Return all findings; `folder` is where runs will lie."""
    return [
        _python(),
        _packages(),
        _imports("ray", "import ray; print(ray.__version__)"),
        machine.memory(machine.memory_limit(psutil.virtual_memory().available)),
        *map(machine.disk, dict.fromkeys([folder, Path(tempfile.gettempdir())])),
        machine.shared_memory(Path("/dev/shm")),
        shell(environ, folder),
        mode(environ),
        *tokens(environ, Path.home()),
        _cluster(environ),
        *left(leftovers.find()),
        data(environ),
        _imports("gpu", GPUS),
        *_ports(),
    ]


def usable(findings: list[Finding]) -> bool:
    """Return whether a run can be expected to work."""
    return all(finding.level != "bad" for finding in findings)


def shell(environ: access.Environ, folder: Path) -> Finding:
    """Judge variables and modules of the working folder that would break Ray."""
    try:
        address = surroundings.cluster_address(environ)
        surroundings.prepare(dict(environ), folder)
    except MetarecError as error:
        return Finding("bad", "shell", str(error), "as it says")
    return Finding("ok", "shell", f"Ray is {'at ' + address if address else 'started here'}")


def mode(environ: access.Environ) -> Finding:
    """Judge `RAY_AUTH_MODE`; unset counts as token, because we start Ray with that."""
    chosen = environ.get("RAY_AUTH_MODE", "token")
    if chosen.lower() == "token":
        return Finding("ok", "authentication", "RAY_AUTH_MODE is token")
    found = f"RAY_AUTH_MODE is {chosen}: whoever reaches a port of Ray runs code here"
    return Finding("bad", "authentication", found, "unset RAY_AUTH_MODE")


def tokens(environ: access.Environ, user_home: Path) -> list[Finding]:
    """Judge every token file that Ray could use; one that others can read is bad."""
    findings = []
    if environ.get("RAY_AUTH_TOKEN"):
        findings.append(Finding("ok", "token", "in RAY_AUTH_TOKEN"))
    named = environ.get("RAY_AUTH_TOKEN_PATH")
    if named and not Path(named).is_file():
        found = f"RAY_AUTH_TOKEN_PATH names no file: {named}"
        findings.append(Finding("bad", "token", found, "unset RAY_AUTH_TOKEN_PATH"))
    paths = [Path(named)] if named else []
    paths += [access.home(environ) / "auth_token", user_home / ".ray" / "auth_token"]
    findings += [_token(path) for path in dict.fromkeys(paths) if path.is_file()]
    none = Finding("ok", "token", "none yet; made, with mode 0600, when Ray is first started")
    return findings or [none]


def data(environ: access.Environ) -> Finding:
    """Judge `METAREC_DATA` and list the data sets in it."""
    named = environ.get("METAREC_DATA")
    if not named:
        return Finding("ok", "data", "METAREC_DATA is not set: data sets are fetched on demand")
    if not Path(named).is_dir():
        return Finding("bad", "data", f"METAREC_DATA is no folder: {named}", "unset METAREC_DATA")
    names = sorted(path.name for path in Path(named).iterdir() if path.is_dir())
    return Finding("ok", "data", f"{named}: {', '.join(names) or 'empty'}")


def left(found: list[leftovers.Leftover]) -> list[Finding]:
    """Return a warning for each endpoint that was killed and left something."""
    return [Finding("warn", "left behind", one.sentence(), _mend(one)) for one in found]


def _mend(leftover: leftovers.Leftover) -> str:
    line = f"rm -r {leftover.folder}"
    if leftover.processes:
        line = f"kill {' '.join(str(one.pid) for one in leftover.processes)} && {line}"
    return f"{line}, or metarec serve, which does it first"


def _python() -> Finding:
    found = f"{sys.version.split()[0]} ({sys.executable})"
    # As a tuple: comparing sys.version_info itself is dead code to the linter.
    if tuple(sys.version_info) >= (3, 11):
        return Finding("ok", "python", found)
    return Finding("bad", "python", found, "use Python 3.11 or newer")


def _packages() -> Finding:
    """Compare what is installed with what the package asks for."""
    try:
        asked = [Requirement(line) for line in metadata.requires("metarec_ray") or []]
    except metadata.PackageNotFoundError:
        return Finding("bad", "packages", "metarec_ray is not installed", "make setup")
    core = [one for one in asked if one.marker is None or one.marker.evaluate({"extra": ""})]
    wrong = [text for one in core if (text := _mismatch(one))]
    if wrong:
        return Finding("bad", "packages", "; ".join(wrong), "make clean setup")
    return Finding("ok", "packages", f"all {len(core)} dependencies are installed, in range")


def _mismatch(asked: Requirement) -> str:
    try:
        version = metadata.version(asked.name)
    except metadata.PackageNotFoundError:
        return f"{asked.name} is missing"
    inside = asked.specifier.contains(version, prereleases=True)
    return "" if inside else f"{asked.name} is {version}, asked for is {asked.specifier}"


def _imports(subject: str, code: str) -> Finding:
    """Run code in a new process, which a broken wheel or driver may crash or hang."""
    try:
        line = [sys.executable, "-P", "-c", code]  # not from the working folder
        done = subprocess.run(
            line, capture_output=True, text=True, timeout=IMPORT_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        found = f"no answer within {IMPORT_SECONDS} s"
        return Finding("bad", subject, found, "look for another process that holds the machine")
    written = done.stdout if done.returncode == 0 else done.stderr
    last = (written.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
    if done.returncode == 0:
        return Finding("ok", subject, last)
    return Finding("bad", subject, f"does not import: {last}", "make clean setup")


def _token(path: Path) -> Finding:
    permissions = stat.S_IMODE(path.stat().st_mode)
    found = f"{path} has mode {permissions:04o}"
    if permissions & 0o077:
        return Finding("bad", "token", found, f"chmod 600 {path}")
    return Finding("ok", "token", found)


def _cluster(environ: access.Environ) -> Finding:
    try:
        running = local_cluster.current(environ)
    except MetarecError as error:
        return Finding("warn", "cluster", str(error), "delete the file that it names")
    return Finding("ok", "cluster", f"up at {running.address}" if running else "none is up")


def _ports() -> list[Finding]:
    try:
        return machine.open_ports(listening())
    except psutil.AccessDenied:
        found = "the system does not tell this user who listens"
        return [Finding("warn", "ports", found, "run as root to see them")]
