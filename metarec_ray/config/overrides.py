"""Overrides, `section.key=value`: what a value means, and where it goes.

The schema decides: text where the key takes text, as it is written; else what YAML makes of it.
Does not know any section.
"""

import re
from collections.abc import Mapping, Sequence
from types import EllipsisType, NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import yaml
from pydantic import BaseModel
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from metarec_ray.config import yaml_text
from metarec_ray.config.messages import UNIONS
from metarec_ray.errors import ConfigError

_LED_BY_ZEROS = re.compile(r"[-+]?0[0-9]+")
Kinds = list[Any]
"""Members of the union that a value may be: classes, `dict[...]`, `tuple[...]`."""


def read(texts: Sequence[str], schema: type[BaseModel]) -> dict[str, Any]:
    """Return dotted keys and their values of `key=value` texts.

    Raises:
        ConfigError: no key, no YAML where the key takes no text, or one thing said twice.

    """
    found: dict[str, Any] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        key = key.strip()
        if not equals or not key:
            raise ConfigError(f"an override must be key=value, got {text!r} (--set)")
        meant = _meant(key, value, _kinds(schema, key.split(".")))
        if key in found and found[key] != meant:
            raise ConfigError(f"a key must be set once, got {found[key]} and {meant} (--set {key})")
        found[key] = meant
    for key in found:
        whole = next((other for other in found if key.startswith(f"{other}.")), None)
        if whole is not None:
            raise ConfigError(
                f"a section must be set as a whole or key by key, got {whole} and {key} (--set)"
            )
    return found


def assigned(tree: dict[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Return `tree` with dotted keys replaced; a new member of a union first, then its keys."""
    names = [f"{'.'.join(union)}.name" for union in UNIONS]
    for key in sorted(values, key=lambda key: key not in names):
        _assign(tree, key, values[key])
    return tree


def _assign(tree: dict[str, Any], key: str, value: Any) -> None:
    *sections, last = key.split(".")
    for section in sections:
        if tree.get(section) is None:
            tree[section] = {}
        branch = tree[section]
        if not isinstance(branch, dict):
            raise ConfigError(
                f"{section} of {key} must be a section, got the value {branch!r} (--set)"
            )
        tree = branch
    if last == "name" and tuple(sections) in UNIONS and tree.get("name") != value:
        tree.clear()  # Another algorithm has other hyper-parameters; its own follow.
    tree[last] = value


def _meant(key: str, text: str, kinds: Kinds) -> Any:
    """Return what the value of an override is, for a key that takes `kinds`."""
    if int in kinds and _LED_BY_ZEROS.fullmatch(text.strip()):
        return int(text)  # to YAML it is octal
    structure = text.lstrip().startswith(("[", "{")) and any(map(_parts, kinds))
    if str in kinds and not structure:
        return _scalar(text, kinds)
    try:
        node = yaml_text.nodes(text)
        return None if node is None else _made(node, kinds)
    except yaml_text.SaidTwice as error:
        raise ConfigError(f"{error} (--set {key})") from None
    except (yaml.YAMLError, RecursionError, ValueError):
        raise ConfigError(
            f"the value of an override must be YAML, got {text!r} (--set {key})"
        ) from None


def _made(node: Node, kinds: Kinds) -> Any:
    """Return the value of a node, text as it is written where `kinds` have text."""
    if isinstance(node, SequenceNode):
        inner = [part for kind in kinds for part in _parts(kind, "")]
        return [_made(one, inner) for one in node.value]
    if isinstance(node, MappingNode) and all(isinstance(key, ScalarNode) for key, _ in node.value):
        return {
            key.value: _made(one, [part for kind in kinds for part in _parts(kind, key.value)])
            for key, one in node.value
        }
    if isinstance(node, ScalarNode) and str in kinds:
        return node.value if node.style in ("'", '"') else _scalar(node.value, kinds)
    return yaml_text.guessed(node)


def _scalar(text: str, kinds: Kinds) -> Any:
    """Return text, unless the key takes something else that is written just so."""
    if text in ("", "null") and (NoneType in kinds or not text):
        return None
    try:
        guess = yaml_text.tree(text)
    except yaml.YAMLError:
        return text
    written = str(guess).lower() if isinstance(guess, bool) else str(guess)
    return guess if type(guess) in kinds and written == text else text


def _kinds(schema: Any, path: Sequence[str]) -> Kinds:
    """Return what the key at a path takes; [] for a key that is not known."""
    kinds = [schema]
    for name in path:
        kinds = [part for kind in kinds for part in _parts(kind, name)]
    return kinds


def _parts(kind: Any, name: str = "") -> Kinds:
    """Return what `name` of a section or mapping, or an element of a list, may be."""
    arguments = [one for one in get_args(kind) if not isinstance(one, EllipsisType)]
    origin = get_origin(kind)
    if origin is dict:
        return _members(arguments[1])
    if origin in (list, tuple, set, frozenset):
        return [member for one in arguments for member in _members(one)]
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        field = kind.model_fields.get(name)
        return [] if field is None else _members(field.annotation)
    return []


def _members(annotation: Any) -> Kinds:
    """Return the members of a union without their rules; the types of a Literal's values."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _members(arguments[0])
    if origin in (Union, UnionType):
        return [member for one in arguments for member in _members(one)]
    if origin is Literal:
        return [type(value) for value in arguments]
    return [annotation]
