"""What every part of a recipe is made of: a strict record, and the ranges that dials share."""

from __future__ import annotations

from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

Name = Annotated[str, StringConstraints(min_length=1)]
Count = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]
Positive = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Dropout = Annotated[float, Field(ge=0, lt=1)]
Auto = Literal["auto"]


def _allows_bool(annotation: Any) -> bool:
    return annotation is bool or any(_allows_bool(part) for part in get_args(annotation))


class Section(BaseModel):
    """Frozen; unknown keys, infinities and booleans in the place of numbers or strings are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _no_stray_boolean(cls, value: Any, info: ValidationInfo) -> Any:
        # pydantic would read `true` as 1, and YAML reads a bare `yes` as `true`
        annotation = cls.model_fields[info.field_name or ""].annotation
        if isinstance(value, bool) and not _allows_bool(annotation):
            raise PydanticCustomError("stray_boolean", "a boolean where none belongs")
        return value
