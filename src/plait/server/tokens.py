"""/tokenize and /detokenize."""

from __future__ import annotations

import asyncio

from starlette.requests import Request

from plait.server import prompts
from plait.server.errors import RefusedError
from plait.server.schema.tokens import DetokenizeRequest, Text, TokenizeRequest, Tokens
from plait.server.state import Served, state_of


async def tokenize(body: TokenizeRequest, request: Request) -> Tokens:
    """Token ids of a text or a conversation. Raises UserError."""
    served = state_of(request).served
    prompts.check_model(served, body.model)
    if (body.prompt is None) == (body.messages is None):
        raise RefusedError(400, "a prompt or messages are needed", "one of the two", param="prompt")
    if body.prompt is not None:
        ids = await asyncio.to_thread(_encode, served, body.prompt, body.add_special_tokens)
    else:
        messages = [message.plain() for message in body.messages or ()]
        ids = (await prompts.encoded_chat(served, messages)).ids
    decode = served.tokenizer.decode
    texts = (
        [decode([token], skip_special=False) for token in ids] if body.return_token_strs else None
    )
    length = served.traits.context_length
    return Tokens(count=len(ids), max_model_len=length, tokens=ids, token_strs=texts)


async def detokenize(body: DetokenizeRequest, request: Request) -> Text:
    """The text of token ids, names of control tokens included. Raises UserError."""
    served = state_of(request).served
    prompts.check_model(served, body.model)
    text = await asyncio.to_thread(
        served.tokenizer.decode, body.tokens, skip_special=False, at_start=True
    )
    return Text(prompt=text)


def _encode(served: Served, text: str, add_special: bool) -> list[int]:
    served.tokenizer.refuse_longer(text, served.traits.context_length)
    return served.tokenizer.encode(text, add_special=add_special, parse_special=True)
