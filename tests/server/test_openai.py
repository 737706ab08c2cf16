"""The real `openai` client against a real server with a real model: twelve groups of calls."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterator
from typing import Any

import openai
import pytest

from plait import LLM, SamplingParams
from tests.server.conftest import MODEL
from tests.server.running import Running, until

SAY = [{"role": "user", "content": "Name three colours."}]
GREEDY: dict[str, Any] = {"model": MODEL, "temperature": 0, "max_tokens": 12}


@pytest.fixture(scope="module")
def client(server: Running) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="any", max_retries=0) as one:
        yield one


def test_models(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == [MODEL, "alias"]
    assert client.models.retrieve("alias").id == "alias"
    with pytest.raises(openai.NotFoundError, match="smollm2-135m"):
        client.models.retrieve("smollm2-135")


def test_completion_equals_the_offline_answer(client: openai.OpenAI, llm: LLM) -> None:
    (output,) = llm.generate("Once upon a time", SamplingParams(temperature=0, max_tokens=12))
    answer = client.completions.create(prompt="Once upon a time", **GREEDY)
    assert answer.choices[0].text == output.outputs[0].text
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage is not None
    assert answer.usage.prompt_tokens == len(output.prompt_token_ids)
    assert answer.usage.completion_tokens == 12
    assert answer.timings["predicted_n"] == 12  # type: ignore[attr-defined]


def test_prompts_as_text_tokens_and_lists(client: openai.OpenAI, llm: LLM) -> None:
    texts = ["Once upon a time", "The sea is"]
    ids = [llm.tokenizer.encode(text) for text in texts]
    each = [client.completions.create(prompt=text, **GREEDY).choices[0].text for text in texts]
    for prompt in (texts, ids):
        answer = client.completions.create(prompt=prompt, **GREEDY)
        assert [choice.text for choice in answer.choices] == each
        assert answer.usage is not None
        assert answer.usage.prompt_tokens == sum(map(len, ids))
    assert client.completions.create(prompt=ids[1], **GREEDY).choices[0].text == each[1]


def test_streamed_text_is_the_text_and_usage_is_exact(client: openai.OpenAI) -> None:
    asked = GREEDY | {"prompt": ["Once", "The sea"], "n": 2, "seed": 3, "temperature": 1.0}
    whole = client.completions.create(**asked)
    texts, reasons = [""] * 4, [None] * 4
    chunks = list(
        client.completions.create(stream=True, stream_options={"include_usage": True}, **asked)
    )
    for chunk in chunks:
        for choice in chunk.choices:
            texts[choice.index] += choice.text
            reasons[choice.index] = choice.finish_reason or reasons[choice.index]
    assert texts == [choice.text for choice in whole.choices]
    assert reasons == [choice.finish_reason for choice in whole.choices]
    assert chunks[-1].choices == []
    assert chunks[-1].usage == whole.usage


def test_echo_and_logprobs_of_a_completion(client: openai.OpenAI, llm: LLM) -> None:
    answer = client.completions.create(
        model=MODEL, prompt="The sea is", echo=True, logprobs=2, max_tokens=0
    )
    scores = answer.choices[0].logprobs
    assert answer.choices[0].text == "The sea is"
    assert scores is not None
    assert scores.tokens is not None
    assert "".join(scores.tokens) == "The sea is"
    assert scores.token_logprobs is not None
    assert scores.token_logprobs[0] is None
    offline = llm.score(llm.tokenizer.encode("The sea is"))
    assert scores.token_logprobs[1:] == pytest.approx(offline[1:].tolist(), abs=1e-4)
    longer = client.completions.create(prompt="The sea is", echo=True, logprobs=0, **GREEDY)
    assert longer.choices[0].logprobs is not None
    assert "".join(longer.choices[0].logprobs.tokens or []) == longer.choices[0].text


def test_chat_streams_what_it_says(client: openai.OpenAI, llm: LLM) -> None:
    (output,) = llm.chat(SAY, SamplingParams(temperature=0, max_tokens=12))
    asked = GREEDY | {"messages": SAY}
    whole = client.chat.completions.create(**asked)
    assert whole.choices[0].message.content == output.outputs[0].text
    chunks = list(
        client.chat.completions.create(stream=True, stream_options={"include_usage": True}, **asked)
    )
    pieces = [chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices]
    assert "".join(pieces) == output.outputs[0].text
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-1].usage == whole.usage
    assert whole.usage is not None
    assert whole.usage.prompt_tokens == len(output.prompt_token_ids)


def test_chat_of_several_turns_in_parts(client: openai.OpenAI, llm: LLM) -> None:
    turns = [
        {"role": "system", "content": "You are brief."},
        *SAY,
        {"role": "assistant", "content": "Red, green, blue."},
        {"role": "user", "content": "One more."},
    ]
    parts = [
        {**turn, "content": [{"type": "text", "text": letter} for letter in turn["content"]]}
        for turn in turns
    ]
    (output,) = llm.chat(turns, SamplingParams(temperature=0, max_tokens=12))
    for messages in (turns, parts):
        answer = client.chat.completions.create(messages=messages, **GREEDY)  # type: ignore[call-overload]
        assert answer.choices[0].message.content == output.outputs[0].text
    told = client.chat.completions.create(messages=SAY, **GREEDY).choices[0].message
    again = client.chat.completions.create(messages=[*SAY, told.model_dump(), *SAY], **GREEDY)  # type: ignore[list-item]
    assert again.choices[0].message.content


def test_chat_logprobs_are_those_of_the_stream(client: openai.OpenAI) -> None:
    asked = GREEDY | {"messages": SAY, "logprobs": True, "top_logprobs": 3, "stop": "."}
    whole = client.chat.completions.create(**asked).choices[0]
    assert whole.logprobs is not None
    assert whole.logprobs.content
    for entry in whole.logprobs.content:
        assert len(entry.top_logprobs) == 3
        assert entry.logprob == entry.top_logprobs[0].logprob <= 0
        assert math.isfinite(entry.logprob)
    streamed = [
        entry
        for chunk in client.chat.completions.create(stream=True, **asked)
        if chunk.choices and chunk.choices[0].logprobs
        for entry in chunk.choices[0].logprobs.content or []
    ]
    assert streamed == whole.logprobs.content


def test_stop_seed_bias_and_penalties(client: openai.OpenAI) -> None:
    base = client.completions.create(prompt="1, 2, 3,", **GREEDY).choices[0]
    assert "5" in base.text
    stopped = client.completions.create(prompt="1, 2, 3,", stop=["5"], **GREEDY)
    assert stopped.choices[0].text == base.text.split("5")[0]
    assert stopped.choices[0].finish_reason == "stop"
    warm = GREEDY | {"temperature": 1.0, "prompt": "Once"}
    texts = [client.completions.create(seed=seed, **warm).choices[0].text for seed in (1, 1, 2)]
    assert texts[0] == texts[1] != texts[2]
    biased = client.completions.create(prompt="Hi", logit_bias={"33": 100}, **GREEDY)
    assert len(set(biased.choices[0].text)) == 1
    varied = client.completions.create(
        prompt="ha ha ha ha ha ha ha", frequency_penalty=2, presence_penalty=2, **GREEDY
    )
    plain = client.completions.create(prompt="ha ha ha ha ha ha ha", **GREEDY)
    assert varied.choices[0].text != plain.choices[0].text


def test_responses(client: openai.OpenAI, llm: LLM) -> None:
    turns = [{"role": "system", "content": "You are brief."}, *SAY]
    (output,) = llm.chat(turns, SamplingParams(temperature=0, max_tokens=12))
    asked: dict[str, Any] = {
        "model": MODEL,
        "input": "Name three colours.",
        "instructions": "You are brief.",
        "max_output_tokens": 12,
        "temperature": 0,
    }
    whole = client.responses.create(**asked)
    assert whole.output_text == output.outputs[0].text
    assert whole.status == "incomplete"
    assert whole.incomplete_details is not None
    assert whole.incomplete_details.reason == "max_output_tokens"
    assert whole.usage is not None
    assert (whole.usage.input_tokens, whole.usage.output_tokens) == (
        len(output.prompt_token_ids),
        12,
    )
    events = list(client.responses.create(stream=True, **asked))
    assert [one.sequence_number for one in events] == list(range(len(events)))
    deltas = [one.delta for one in events if one.type == "response.output_text.delta"]
    assert "".join(deltas) == whole.output_text
    assert events[-1].type == "response.incomplete"
    assert events[-1].response.usage == whole.usage


def test_logprobs_of_responses_are_those_of_a_chat(client: openai.OpenAI) -> None:
    asked: dict[str, Any] = {
        "model": MODEL,
        "input": "Name three colours.",
        "max_output_tokens": 12,
        "temperature": 0,
        "top_logprobs": 2,
        "include": ["message.output_text.logprobs"],
    }
    whole = client.responses.create(**asked)
    part = whole.output[0].content[0]  # type: ignore[union-attr]
    assert part.type == "output_text"
    chat = client.chat.completions.create(
        logprobs=True, top_logprobs=2, **GREEDY | {"messages": SAY}
    )
    assert chat.choices[0].logprobs is not None
    expected = [entry.model_dump() for entry in chat.choices[0].logprobs.content or []]
    assert len(expected) == 12
    assert [entry.model_dump() for entry in part.logprobs or []] == expected
    for entry in expected:  # in the events of a text there are none
        for one in (entry, *entry["top_logprobs"]):
            del one["bytes"]
    events = list(client.responses.create(stream=True, **asked))
    deltas = [one for one in events if one.type == "response.output_text.delta"]
    assert [entry.model_dump() for one in deltas for entry in one.logprobs] == expected
    (done,) = (one for one in events if one.type == "response.output_text.done")
    assert [entry.model_dump() for entry in done.logprobs] == expected
    assert events[-1].type == "response.incomplete"
    assert events[-1].response.output[0].content == [part]  # type: ignore[union-attr]
    turns = [{"role": "user", "content": "Name three colours."}, *whole.output]
    more = client.responses.create(
        **asked | {"input": [*turns, {"role": "user", "content": "And?"}]}
    )
    assert more.output_text


@pytest.mark.parametrize(
    "fields", [{"top_logprobs": 2}, {"include": ["reasoning.encrypted_content"]}]
)
def test_what_a_response_cannot_include_is_refused(
    client: openai.OpenAI, fields: dict[str, Any]
) -> None:
    with pytest.raises(openai.BadRequestError, match=next(iter(fields))):
        client.responses.create(model=MODEL, input="Hi", **fields)


def test_embeddings(client: openai.OpenAI) -> None:
    texts = ["The cat sat on the mat.", "A cat was sitting on a mat.", "Stock prices fell sharply."]
    found = client.embeddings.create(model=MODEL, input=texts)
    vectors = [one.embedding for one in found.data]
    assert all(math.hypot(*vector) == pytest.approx(1, abs=1e-5) for vector in vectors)

    def likeness(a: list[float], b: list[float]) -> float:
        return sum(x * y for x, y in zip(a, b, strict=True))

    assert likeness(vectors[0], vectors[1]) > likeness(vectors[0], vectors[2])
    numbers = client.embeddings.create(model=MODEL, input=texts, encoding_format="float")
    assert numbers.data[1].embedding == pytest.approx(vectors[1])
    last = client.embeddings.create(model=MODEL, input=texts[0], extra_body={"pooling": "last"})
    assert likeness(last.data[0].embedding, vectors[0]) < 0.999
    with pytest.raises(openai.BadRequestError, match="dimensions"):
        client.embeddings.create(model=MODEL, input="a", dimensions=7)


def test_embeddings_of_one_request_are_read_together(client: openai.OpenAI, llm: LLM) -> None:
    texts = [f"Sentence number {i} of a list." * (1 + i % 3) for i in range(24)]
    sizes: list[int] = []
    runner = llm.worker.engine.runner
    hidden = runner.hidden

    def counted(inputs: Any, *, until: str) -> Any:
        sizes.append(len(inputs))
        return hidden(inputs, until=until)

    def vectors(given: list[str], pooling: str) -> list[list[float]]:
        answer = client.embeddings.create(
            model=MODEL, input=given, encoding_format="float", extra_body={"pooling": pooling}
        )
        return [one.embedding for one in answer.data]

    for pooling in ("mean", "last"):
        alone = [vectors([text], pooling)[0] for text in texts[:3]]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(runner, "hidden", counted)
            together = vectors(texts, pooling)
        assert together[:3] == alone
    assert sum(sizes) == 2 * len(texts)
    assert len(sizes) <= 4


REFUSED: list[tuple[str, dict[str, Any]]] = [
    ("tools", {"tools": [{"type": "function", "function": {"name": "f g"}}]}),
    ("tool_choice", {"tool_choice": "required"}),
    ("functions", {"functions": [{"name": "f"}]}),
    ("response_format", {"response_format": {"type": "yaml"}}),
    ("top_logprobs", {"top_logprobs": 3}),
    ("temperature", {"temperature": 101}),
    ("logit_bias", {"logit_bias": {"x": 1}}),
    ("store", {"store": True}),
    ("n", {"n": 1000}),
    ("no_such_field", {"extra_body": {"no_such_field": 1}}),
]


@pytest.mark.parametrize(("param", "fields"), REFUSED, ids=[param for param, _ in REFUSED])
def test_what_cannot_be_honoured_is_refused_by_name(
    client: openai.OpenAI, param: str, fields: dict[str, Any]
) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(**{**GREEDY, "messages": SAY, **fields})
    assert param == "n" or param in str(caught.value)


def test_a_prompt_that_is_too_long_says_by_how_much(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match=r"2100.*2048") as caught:
        client.completions.create(prompt=[5] * 2100, **GREEDY)
    assert caught.value.code == "context_length_exceeded"
    with pytest.raises(openai.BadRequestError, match=r"2040.*12.*2052.*2048"):
        client.completions.create(prompt=[5] * 2040, **GREEDY)


def test_a_wrong_model_is_not_found(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="smollm2-135m") as caught:
        client.chat.completions.create(model="gpt-4", messages=SAY)  # type: ignore[arg-type]
    assert caught.value.code == "model_not_found"


def test_many_at_once_are_as_alone(client: openai.OpenAI, server: Running) -> None:
    prompts = [f"Story number {i}:" for i in range(32)]
    asked = GREEDY | {"max_tokens": 4, "temperature": 1.0, "seed": 7}
    alone = [client.completions.create(prompt=p, **asked).choices[0].text for p in prompts]

    async def ask_all() -> list[str]:
        async with openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key="any") as one:
            answers = [one.completions.create(prompt=p, **asked) for p in prompts]
            return [answer.choices[0].text for answer in await asyncio.gather(*answers)]

    assert asyncio.run(ask_all()) == alone


def test_a_client_that_leaves_ends_its_request(
    client: openai.OpenAI, server: Running, llm: LLM
) -> None:
    stream = client.completions.create(
        model=MODEL,
        prompt="Once",
        max_tokens=1500,
        stream=True,
        extra_body={"ignore_eos": True},
    )
    next(iter(stream))
    assert len(server.http.get("/slots").json()) == 1
    stream.close()
    until(lambda: server.http.get("/slots").json() == [])
    assert llm.worker.engine.metrics.finished["cancelled"] >= 1
