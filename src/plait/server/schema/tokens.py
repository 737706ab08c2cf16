"""/tokenize, /detokenize, /v1/models and /v1/embeddings."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from plait.server.schema.chat import Message
from plait.server.schema.common import Answer, Body


class TokenizeRequest(Body):
    """prompt: a text; control tokens written out in it are read as such. Or messages: a conversation."""

    model: str | None = None
    prompt: str | None = None
    messages: list[Message] | None = Field(None, min_length=1)
    add_special_tokens: bool = Field(True, description="Of a prompt; a template has its own.")
    return_token_strs: bool = False


class Tokens(Answer):
    """token_strs: the text of each token, if it was asked for."""

    count: int
    max_model_len: int
    tokens: list[int]
    token_strs: list[str] | None = None


class DetokenizeRequest(Body):
    """Token ids."""

    model: str | None = None
    tokens: list[int] = Field(max_length=1 << 20)


class Text(Answer):
    """What the tokens say."""

    prompt: str


class ModelCard(Answer):
    """A model that can be asked for."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    max_model_len: int


class ModelList(Answer):
    """All of them."""

    object: Literal["list"]
    data: list[ModelCard]


class EmbeddingRequest(Body):
    """Texts, or lists of token ids, to be made vectors of length 1.

    pooling: the mean of the last layer's hidden states, or the last of them. encoding_format: base64 is of
    little-endian float32.
    """

    model: str | None = None
    input: str | list[int] | list[str] | list[list[int]]
    pooling: Literal["mean", "last"] = "mean"
    encoding_format: Literal["float", "base64"] = "float"
    deadline: float | None = Field(None, description="Seconds after which it ends with status 408.")
    dimensions: int | None = Field(None, description="Refused unless it is that of the model.")
    user: str | None = Field(None, max_length=512, description="For the log.")


class Embedding(Answer):
    """One vector."""

    object: Literal["embedding"]
    index: int
    embedding: list[float] | str


class EmbeddingUsage(Answer):
    """Tokens of all inputs."""

    prompt_tokens: int
    total_tokens: int


class EmbeddingList(Answer):
    """In the order of the inputs."""

    object: Literal["list"]
    model: str
    data: list[Embedding]
    usage: EmbeddingUsage
