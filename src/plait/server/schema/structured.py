"""What an answer has to look like: OpenAI's `response_format`, and vLLM's extras."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any, Literal

from pydantic import Field

from plait.core.errors import UserError
from plait.core.structured import StructuredOutputs
from plait.server.schema.common import Body, Penalties

Schema = dict[str, Any] | bool
Name = Annotated[str, Field(max_length=256)]


class TextFormat(Body):
    """Any text."""

    type: Literal["text"]

    def asked(self) -> StructuredOutputs | None:
        """Nothing."""
        return None


class JsonObjectFormat(Body):
    """Any JSON object."""

    type: Literal["json_object"]

    def asked(self) -> StructuredOutputs | None:
        """Any object."""
        return StructuredOutputs(json_object=True)


class NamedSchema(Body):
    """strict: every schema is kept to in full, whether this is set or not."""

    name: Name
    description: str | None = None
    schema_: Schema | None = Field(None, alias="schema")
    strict: bool | None = None

    def asked(self) -> StructuredOutputs | None:
        """The schema; any object where there is none. Raises UserError."""
        if self.schema_ is None:
            return StructuredOutputs(json_object=True)
        return StructuredOutputs(json=self.schema_)


class JsonSchemaFormat(Body):
    """JSON that fits a schema."""

    type: Literal["json_schema"]
    json_schema: NamedSchema

    def asked(self) -> StructuredOutputs | None:
        """See `NamedSchema`."""
        return self.json_schema.asked()


class FlatSchemaFormat(NamedSchema):
    """The same as /v1/responses has it."""

    type: Literal["json_schema"]


class StructuralTagFormat(Body):
    """Free text with parts that are not, in vLLM's older notation or as a `format`."""

    type: Literal["structural_tag"]
    triggers: list[str] | None = None
    structures: list[dict[str, Any]] | None = None
    format: dict[str, Any] | None = None

    def asked(self) -> StructuredOutputs | None:
        """Raises UserError."""
        fields = self.model_dump(exclude={"type"}, exclude_none=True)
        return StructuredOutputs(structural_tag=fields)


ResponseFormat = Annotated[
    TextFormat | JsonObjectFormat | JsonSchemaFormat | StructuralTagFormat,
    Field(discriminator="type"),
]
ResponsesFormat = Annotated[
    TextFormat | JsonObjectFormat | FlatSchemaFormat, Field(discriminator="type")
]


class Structure(Body):
    """vLLM's `structured_outputs`: one of the first six."""

    json_: Schema | str | None = Field(None, alias="json")
    regex: str | None = None
    choice: list[str] | None = None
    grammar: str | None = None
    json_object: bool | None = None
    structural_tag: dict[str, Any] | str | None = None
    disable_any_whitespace: bool = False
    complete: bool = Field(
        False,
        description="Lead an answer that max_tokens would cut to its end before; finish_reason stays length.",
    )
    begins_at: int | None = Field(
        None,
        ge=0,
        description="Of an infill: the token of the prompt with which the text begins that has to fit; else the first "
        "that is filled in.",
    )

    def asked(self) -> StructuredOutputs:
        """Raises UserError."""
        fields = self.model_dump(by_alias=True)
        return StructuredOutputs(**fields)


class Constrained(Penalties):
    """What completions and chats take besides: at most one of these."""

    response_format: ResponseFormat | None = None
    structured_outputs: Structure | None = Field(
        None, description="What the answer fits: one of json (a schema), regex, choice, grammar."
    )
    guided_json: Schema | str | None = Field(None, description="The old name of json in it.")
    guided_regex: str | None = Field(None, description="The old name of regex in it.")
    guided_choice: list[str] | None = Field(None, description="The old name of choice in it.")
    guided_grammar: str | None = Field(None, description="The old name of grammar in it.")

    def structured(self) -> StructuredOutputs | None:
        """What the answer has to fit. Raises UserError for several things at once, and for what cannot be."""
        guided = {
            kind: getattr(self, f"guided_{kind}")
            for kind in ("json", "regex", "choice", "grammar")
            if getattr(self, f"guided_{kind}") is not None
        }
        more = self.structured_outputs
        is_added = more is not None and more.model_fields_set == {"complete"}
        given = (self.response_format, None if is_added else more)
        asked = [each.asked() for each in given if each] + (
            [StructuredOutputs(**guided)] if guided else []
        )
        found = [each for each in asked if each is not None]
        if len(found) > 1:
            raise UserError(
                "response_format, structured_outputs and guided_* contradict each other",
                "give one of them",
            )
        if more is None or not is_added:
            return found[0] if found else None
        if not found:
            raise UserError(
                "complete goes with what the answer has to fit", "a response_format too"
            )
        return replace(found[0], complete=more.complete)
