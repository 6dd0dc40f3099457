"""Schemas of the JSON files that we write: what a file holds stands in one class, which reads and writes it."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError

from hespotex.errors import RunError
from hespotex.storage.atomic import jsonable, write_json
from hespotex.storage.disk_errors import disk_fields

Score = Annotated[float, BeforeValidator(lambda value: math.nan if value is None else value)]
"""A number that may not exist: NaN here, null in the file."""


class Schema(BaseModel):
    """Base of what a file holds: frozen; keys that it does not name are kept, those that a file lacks have defaults."""

    model_config = ConfigDict(frozen=True, extra="allow", protected_namespaces=())

    def plain(self) -> dict[str, Any]:
        """What stands in the file, in the order of the fields: only what was set, and NaN as None."""
        return dict(jsonable(self.model_dump(exclude_unset=True)))


class JsonFile(Schema):
    """A whole file."""

    holds: ClassVar[str]
    """What is expected in the file, for messages."""
    remedy: ClassVar[str] = "make the run again"
    """What to do where it is damaged."""

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a file.

        Raises:
            RunError: it is missing, damaged, or holds values of other kinds.
        """
        found = cls.read_if_there(path)
        if found is None:
            raise RunError(expected=f"{cls.holds} in {path}", found="nothing", remedy=cls.remedy)
        return found

    @classmethod
    def read_if_there(cls, path: Path) -> Self | None:
        """Read a file; None where there is none.

        Raises:
            RunError: it is damaged, or holds values of other kinds.
        """
        expected = f"{cls.holds} in {path}"
        try:
            return cls.model_validate(json.loads(path.read_text(encoding="utf-8")))
        except FileNotFoundError:
            return None
        except ValidationError as error:
            cause = first_fault(error)
            raise RunError(expected=expected, cause=cause, remedy=cls.remedy) from error
        except (OSError, ValueError) as error:
            raise RunError(expected=expected, **disk_fields(error, otherwise=cls.remedy)) from error

    def write(self, path: Path) -> None:
        """Write the file, whole or not at all.

        Raises:
            RunError: the folder cannot be written.
        """
        write_json(path, self.plain())


def first_fault(error: ValidationError) -> str:
    """The first thing that does not fit a schema, and where it stands."""
    wrong = error.errors(include_url=False)[0]
    where = ".".join(str(part) for part in wrong["loc"])
    return f"{where}: {wrong['msg']}" if where else f"a {type(wrong['input']).__name__}"
