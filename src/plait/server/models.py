"""/v1/models."""

from __future__ import annotations

from starlette.requests import Request

from plait.server import prompts
from plait.server.schema.tokens import ModelCard, ModelList
from plait.server.state import Served, state_of


async def all_models(request: Request) -> ModelList:
    """Every name that the model has here."""
    served = state_of(request).served
    return ModelList(object="list", data=[_card(served, name) for name in served.names])


async def one_model(model: str, request: Request) -> ModelCard:
    """One of them. Raises UserError for a name that is not served."""
    served = state_of(request).served
    prompts.check_model(served, model)
    return _card(served, model)


def _card(served: Served, name: str) -> ModelCard:
    return ModelCard(
        id=name,
        object="model",
        created=served.created,
        owned_by="plait",
        max_model_len=served.traits.context_length,
    )
