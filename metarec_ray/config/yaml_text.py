"""YAML as trees of nodes and of values, in which no key is said twice.

Knows YAML; does not know any section.
"""

from pathlib import Path
from typing import Any

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode

from metarec_ray.errors import ConfigError

TOO_DEEP = "it is nested too deeply"


class SaidTwice(yaml.YAMLError):
    """A mapping has a key twice; the message says which, and where."""


class _Loader(yaml.SafeLoader):
    """The safe loader, which by itself keeps the last of two equal keys."""

    def compose_mapping_node(self, anchor: Any) -> MappingNode:
        node = super().compose_mapping_node(anchor)
        lines: dict[tuple[str, str], int] = {}
        for key, _ in node.value:
            if not isinstance(key, ScalarNode):
                continue
            name, line = (key.tag, key.value), key.start_mark.line + 1
            if name in lines:
                raise SaidTwice(
                    f"a key must be said once, {key.value} is on line {lines[name]} and on line "
                    f"{line}"
                )
            lines[name] = line
        return node


def tree(text: str) -> Any:
    """Return the values of a YAML document; SaidTwice or another YAMLError if it is none."""
    node = nodes(text)
    if node is None:
        return None
    try:
        return guessed(node)
    except RecursionError:
        raise yaml.YAMLError(TOO_DEEP) from None


def nodes(text: str) -> Node | None:
    """Return a YAML document as nodes, None for an empty one; errors as of `tree`."""
    try:
        return yaml.compose(text, _Loader)
    except RecursionError:
        raise yaml.YAMLError(TOO_DEEP) from None


def guessed(node: Node) -> Any:
    """Return what YAML takes a node for."""
    loader = _Loader("")
    try:
        return loader.construct_document(node)
    finally:
        loader.dispose()


def read(path: Path) -> dict[str, Any]:
    """Return the sections of a YAML file; an empty one is None.

    Raises:
        ConfigError: no such file, not YAML, a key twice, or no mapping.

    """
    try:
        found = tree(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"a configuration must be a readable file, got {path}: {error}") from None
    except SaidTwice as error:
        raise ConfigError(f"{error} ({path})") from None
    except (yaml.YAMLError, ValueError) as error:  # a date of no calendar, say
        first = " ".join(str(error).split())
        raise ConfigError(f"a configuration must be YAML: {first} ({path})") from None
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise ConfigError(
            f"a configuration must be a mapping of sections, got a {type(found).__name__} ({path})"
        )
    return found
