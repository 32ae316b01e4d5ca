"""What every kind of source at AWS is told of whom to be."""

from typing import Annotated, Self

from pydantic import AfterValidator, BaseModel, Field, model_validator

from app.aws.access import checked_external_id, checked_role_arn


class AsRole(BaseModel):
    """The role that calls are made as; without one, the process's own identity."""

    role_arn: Annotated[str, AfterValidator(checked_role_arn)] | None = Field(
        default=None, max_length=2048, description="a role to assume; default: the process's own identity"
    )
    external_id: Annotated[str, AfterValidator(checked_external_id)] | None = Field(
        default=None, max_length=1224, description="what the role's trust policy asks for"
    )

    @model_validator(mode="after")
    def _external_id_has_a_role(self) -> Self:
        if self.external_id is not None and self.role_arn is None:
            raise ValueError("external_id is for a role: set role_arn too")
        return self
