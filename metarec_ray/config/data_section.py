"""The `data` section of a configuration alone: what `metarec data check` needs, without learners.

Importing every learner takes longer than reading the head of a log. Does not know other sections.
"""

import json
from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from metarec_ray.config import overrides, places, yaml_text
from metarec_ray.config.messages import sentence
from metarec_ray.data.settings import Data
from metarec_ray.errors import ConfigError


class _Sections(BaseModel):
    model_config = ConfigDict(extra="ignore")

    data: Data = Data()


def load(path: Path, texts: Sequence[str] = ()) -> Data:
    """Return the `data` section of a YAML file with `key=value` overrides, its paths found.

    Raises:
        ConfigError: as `config.experiment.load`, of this section.
        DataError: the log or a table is missing; says where it was looked for.

    """
    path = path.expanduser()
    tree = overrides.assigned(yaml_text.read(path), overrides.read(texts, _Sections))
    tree = {section: {} if content is None else content for section, content in tree.items()}
    try:
        asked = _Sections.model_validate(tree).data
    except ValidationError as error:
        raise ConfigError(sentence(error, str(path))) from None
    own = {"run": {"relative_to": "working_folder"}, "data": json.loads(asked.model_dump_json())}
    found = places.beside(own, path.parent)
    places.require(found, path)
    return Data.model_validate(found["data"])
