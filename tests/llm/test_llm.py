"""The offline facade over the fake model."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import plait
from plait import LLM, RequestOutput, SamplingParams
from plait.core.config import PAGE
from plait.core.errors import ContextLengthError, UserError
from plait.core.params import MAX_STOPS
from plait.core.sequence import Event
from plait.core.window import CAUSAL
from plait.engine.engine import Engine
from plait.llm import _Texts
from tests.fakes import BLOCK_TRAITS, EOS, drain, make_engine, plain_logits, runner_of
from tests.llm.fakes import NAMES, START, make_llm

PARAMS = SamplingParams(temperature=0.0, max_tokens=30, ignore_eos=True)
LONG = replace(PARAMS, max_tokens=1900)


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> Iterator[LLM]:
    made = make_llm(monkeypatch)
    yield made
    made.close()
    pool = made._worker.engine.scheduler.cache.pool
    assert pool.num_free == pool.num_pages


def tokens_of(ids: list[int], params: SamplingParams = PARAMS) -> list[int]:
    engine = make_engine()
    key = engine.add(ids, params)
    return drain(engine)[key].tokens


def text_of(ids: list[int]) -> str:
    shown = [NAMES[i] for i in ids if not NAMES[i].startswith("<|")]
    return "".join(shown).replace("Ġ", " ").replace("Ċ", "\n")


def test_the_names_a_user_imports_are_there() -> None:
    assert plait.LLM is LLM
    assert plait.RequestOutput is RequestOutput


def test_generate_takes_every_form_of_prompt(model: LLM) -> None:
    ids = model.tokenizer.encode("abc")
    for prompt in ("abc", {"prompt": "abc"}, {"prompt_token_ids": ids}, ["abc"]):
        [output] = model.generate(prompt, PARAMS)  # type: ignore[arg-type]
        assert output.prompt_token_ids == ids
        assert output.outputs[0].token_ids == tokens_of(ids)
        assert output.outputs[0].text == text_of(tokens_of(ids))
        assert output.finished
        assert output.outputs[0].finish_reason == "length"
        assert output.prompt == (
            None if isinstance(prompt, dict) and ids in prompt.values() else "abc"
        )


def test_outputs_come_in_the_order_of_the_prompts(model: LLM) -> None:
    prompts = ["a", "bb" * 40, "c", "dd" * 10]
    params = [replace(PARAMS, max_tokens=n) for n in (20, 1, 7, 3)]
    outputs = model.generate(prompts, params)
    assert [output.prompt for output in outputs] == prompts
    assert [len(output.outputs[0].token_ids) for output in outputs] == [20, 1, 7, 3]
    with pytest.raises(UserError, match="4 params for 1 prompts"):
        model.generate("a", params)


def test_the_next_turn_of_a_chat_finds_the_last_one(model: LLM) -> None:
    messages = [{"role": "user", "content": "hello" * 10}]
    [first] = model.chat(messages, PARAMS)
    assert first.num_cached_tokens == 0
    messages += [
        {"role": "assistant", "content": first.outputs[0].text},
        {"role": "user", "content": "and"},
    ]
    [second] = model.chat(messages, PARAMS)
    shared = len(first.prompt_token_ids)
    assert second.prompt_token_ids[: shared - 1] == first.prompt_token_ids[:-1]
    assert second.num_cached_tokens >= shared // PAGE * PAGE > 0
    assert second.outputs[0].token_ids == tokens_of(second.prompt_token_ids)
    assert model.counters["prefix_hit_tokens"] == second.num_cached_tokens
    model.reset_prefix_cache()
    [third] = model.chat(messages, PARAMS)
    assert third.num_cached_tokens == 0


def test_a_salt_is_a_cache_of_ones_own(model: LLM) -> None:
    for salt, cached in (("a", False), ("b", False), ("a", True)):
        [output] = model.generate("hello" * 10, PARAMS, cache_salt=salt)
        assert bool(output.num_cached_tokens) == cached
    for wrong in (7, "x" * 257):
        with pytest.raises(UserError, match="cache_salt"):
            model.generate("a", PARAMS, cache_salt=wrong)


def test_default_params_are_those_of_the_class(model: LLM) -> None:
    [output] = model.generate("abc")
    assert len(output.outputs[0].token_ids) <= 16


def test_several_choices_are_in_one_output(model: LLM) -> None:
    [output] = model.generate("abc", replace(PARAMS, n=3, temperature=1.0, seed=1))
    assert [one.index for one in output.outputs] == [0, 1, 2]
    assert len({one.text for one in output.outputs}) == 3


def test_metrics_tell_when_what_happened(model: LLM) -> None:
    [output] = model.generate("abc", PARAMS)
    metrics = output.metrics
    assert metrics.first_token_time is not None
    assert metrics.finished_time is not None
    assert metrics.arrival_time <= metrics.first_token_time <= metrics.finished_time
    assert output.num_cached_tokens == metrics.num_cached_tokens == 0


def test_control_tokens_in_a_prompt_are_read_and_in_a_message_are_not(model: LLM) -> None:
    [output] = model.generate("<|im_start|>ab", PARAMS)
    assert output.prompt_token_ids[0] == START
    [output] = model.chat([{"role": "user", "content": "ab<|im_end|>"}], PARAMS)
    assert output.prompt_token_ids[0] == START
    assert output.prompt_token_ids.count(EOS) == 1


def test_chat_takes_one_conversation_or_several(model: LLM) -> None:
    one = [{"role": "user", "content": "ab"}]
    [single] = model.chat(one, PARAMS)
    several = model.chat([one, [{"role": "user", "content": "cd"}]], PARAMS)
    assert several[0].outputs[0].text == single.outputs[0].text
    assert len(several) == 2
    assert model.has_chat_template
    assert model.chat(one, PARAMS, chat_template="{{ messages[0].content }}")[
        0
    ].prompt_token_ids == model.tokenizer.encode("ab")


# ---- how answers end


def test_the_end_of_the_answer_is_not_shown(model: LLM) -> None:
    params = replace(PARAMS, ignore_eos=False, logit_bias={EOS: 100.0})
    [output] = model.generate("abc", params)
    one = output.outputs[0]
    assert (one.text, one.token_ids, one.finish_reason, one.stop_reason) == (
        "",
        [EOS],
        "stop",
        None,
    )
    shown = model.generate("abc", replace(params, skip_special_tokens=False))[0].outputs[0]
    assert shown.text == ""
    shown = model.generate(
        "abc", replace(params, skip_special_tokens=False, include_stop_str_in_output=True)
    )[0].outputs[0]
    assert shown.text == "<|im_end|>"


def test_a_stop_token_is_named_and_its_text_left_out(model: LLM) -> None:
    free = model.generate("abc", PARAMS)[0].outputs[0]
    index = next(i for i in range(5, 30) if free.token_ids[i] not in free.token_ids[:i])
    stop = free.token_ids[index]
    one = model.generate("abc", replace(PARAMS, stop_token_ids=[stop]))[0].outputs[0]
    assert one.token_ids == free.token_ids[: index + 1]
    assert one.text == text_of(free.token_ids[:index])
    assert (one.finish_reason, one.stop_reason) == ("stop", stop)


def visible(model: LLM) -> tuple[str, list[int]]:
    free = model.generate("abc", PARAMS)[0].outputs[0]
    return free.text, free.token_ids


def test_a_stop_string_ends_the_answer_and_is_left_out(model: LLM) -> None:
    text, token_ids = visible(model)
    stop = text[10:13]
    assert text.index(stop) == 10
    one = model.generate("abc", replace(PARAMS, stop=[stop, "zzzzzz"]))[0].outputs[0]
    assert (one.text, one.finish_reason, one.stop_reason) == (text[:10], "stop", stop)
    assert text_of(one.token_ids) == text[:10]
    assert one.token_ids == token_ids[: len(one.token_ids)]
    kept = model.generate("abc", replace(PARAMS, stop=stop, include_stop_str_in_output=True))
    assert kept[0].outputs[0].text == text[:13]


def test_a_stop_string_ends_the_work_too(model: LLM) -> None:
    text, _ = visible(model)
    before = model._worker.engine.metrics.num_tokens
    model.generate("abc", replace(LONG, stop=[text[4:6]]))
    assert model._worker.engine.metrics.num_tokens - before < 1000


def test_each_choice_has_its_own_stop(model: LLM) -> None:
    params = replace(PARAMS, n=3, temperature=1.0, seed=1)
    free = model.generate("abc", params)[0].outputs
    stop = free[1].text[5:8]
    stopped = model.generate("abc", replace(params, stop=[stop]))[0].outputs
    assert stopped[1].text == free[1].text[:5]
    for a, b in zip(free, stopped, strict=True):
        assert b.text == a.text.partition(stop)[0]


# ---- log-probabilities


def test_logprobs_have_vllms_shape(model: LLM) -> None:
    [output] = model.generate("abc", replace(PARAMS, logprobs=2, prompt_logprobs=0))
    one = output.outputs[0]
    assert one.logprobs is not None
    assert len(one.logprobs) == 30
    for token, entry in zip(one.token_ids, one.logprobs, strict=True):
        assert next(iter(entry)) == token
        assert 2 <= len(entry) <= 3
        assert entry[token].decoded_token == model.tokenizer.decode([token], skip_special=False)
    total = sum(e[t].logprob for t, e in zip(one.token_ids, one.logprobs, strict=True))
    assert one.cumulative_logprob == pytest.approx(total)
    assert output.prompt_logprobs is not None
    assert output.prompt_logprobs[0] is None
    assert [set(e) for e in output.prompt_logprobs[1:] if e] == [
        {t} for t in output.prompt_token_ids[1:]
    ]
    assert model.generate("abc", PARAMS)[0].outputs[0].logprobs is None


def test_score_is_the_log_softmax_at_every_token(model: LLM) -> None:
    ids = np.random.default_rng(0).integers(0, 50, 100).astype(np.int32)
    scores = model.score(ids.tolist())
    assert scores.dtype == np.float64
    assert scores.shape == (100,)
    assert np.isnan(scores[0])
    for position in range(1, 100):
        z = plain_logits(ids[:position], CAUSAL, position - 1)[0].astype(np.float64)
        assert scores[position] == pytest.approx(z[ids[position]] - np.log(np.exp(z).sum()))
    np.testing.assert_array_equal(
        model.score("abc"), model.score(model.tokenizer.encode("abc", parse_special=True))
    )


def test_a_record_is_json(model: LLM) -> None:
    [output] = model.generate("abcabcabcabcabc", replace(PARAMS, logprobs=1, n=2))
    record = json.loads(json.dumps(output.record()))
    assert record["prompt"] == "abcabcabcabcabc"
    assert record["outputs"][1]["index"] == 1
    metrics = record["metrics"]
    assert metrics["num_forwards"] == 30 - metrics["num_accepted"]
    assert sum(metrics["drafts"].values()) == metrics["num_drafted"]


# ---- streaming


def test_a_stream_grows_to_what_generate_gives(model: LLM) -> None:
    [whole] = model.generate("abc", PARAMS)
    records = list(model.stream("abc", PARAMS))
    assert [r.finished for r in records] == [False] * (len(records) - 1) + [True]
    texts = [r.outputs[0].text for r in records]
    assert all(b.startswith(a) for a, b in zip(texts, texts[1:], strict=False))
    assert texts[-1] == whole.outputs[0].text
    assert [len(r.outputs[0].token_ids) for r in records] == list(range(1, 31))
    messages = [{"role": "user", "content": "ab"}]
    assert (
        list(model.stream(messages, PARAMS))[-1].outputs == model.chat(messages, PARAMS)[0].outputs
    )


def test_leaving_a_stream_cancels_it(model: LLM) -> None:
    for record in model.stream("abc", LONG):
        assert not record.finished
        break
    assert model.generate("abc", PARAMS)[0].finished
    assert model._worker.engine.metrics.finished["cancelled"] == 1


def test_blocks_stream_only_what_is_final(monkeypatch: pytest.MonkeyPatch) -> None:
    with make_llm(monkeypatch, BLOCK_TRAITS) as model:
        records = [r.outputs[0].token_ids for r in model.stream("abc", PARAMS)]
        for a, b in zip(records, records[1:], strict=False):
            assert b[: len(a)] == a
        [whole] = model.generate("abc", PARAMS)
        assert records[-1] == whole.outputs[0].token_ids
        text = whole.outputs[0].text
        [stopped] = model.generate("abc", replace(PARAMS, stop=[text[6:8]]))
        assert stopped.outputs[0].text == text.partition(text[6:8])[0]


# ---- trouble


def test_a_prompt_that_is_too_long_is_refused_and_nothing_runs(model: LLM) -> None:
    with pytest.raises(ContextLengthError, match=r"3000 tokens.* 2048"):
        model.generate(["abc", {"prompt_token_ids": [1] * 3000}], PARAMS)
    assert model.context_length == 2048
    assert model.generate("abc", PARAMS)[0].finished


def test_megabytes_are_refused_before_they_are_encoded(
    model: LLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    for encode in ("encode", "encode_marked"):
        monkeypatch.setattr(model.tokenizer, encode, None)
    text = "abc" * 100_000
    message = {"role": "user", "content": text}
    for ask in (
        lambda: model.generate(text, PARAMS),
        lambda: model.chat([message], PARAMS),
        lambda: next(model.stream([message], PARAMS)),
        lambda: model.score(text),
    ):
        with pytest.raises(ContextLengthError, match=r"at least \d+ tokens.* 2048"):
            ask()


@pytest.mark.parametrize("prompt", [{"text": "a"}, {"prompt": 3}, 5, [5]])
def test_what_is_no_prompt_is_refused(model: LLM, prompt: Any) -> None:
    with pytest.raises((UserError, TypeError)):
        model.generate(prompt, PARAMS)


def test_a_failed_request_says_so(model: LLM) -> None:
    runner_of(model._worker.engine).broken.update(range(1000))
    [output] = model.generate("abc", PARAMS)
    assert output.outputs[0].finish_reason == "error"
    assert "NaN" in (output.outputs[0].error or "")
    with pytest.raises(RuntimeError, match="NaN"):
        model.score([1, 2, 3])


def test_ctrl_c_cancels_what_was_asked_and_leaves_the_model_usable(
    model: LLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    from plait.text import answer

    real, seen = answer.Answer.take, []

    def take(self: answer.Answer, event: Event) -> bool:
        seen.append(event)
        if len(seen) == 5:
            raise KeyboardInterrupt
        return real(self, event)

    monkeypatch.setattr(answer.Answer, "take", take)
    with pytest.raises(KeyboardInterrupt):
        model.generate(["abc", "def"], LONG)
    monkeypatch.setattr(answer.Answer, "take", real)
    assert model.generate("abc", PARAMS)[0].finished
    assert model._worker.engine.metrics.finished["cancelled"] == 2


def test_a_priority_that_cannot_be_compared_is_refused(model: LLM) -> None:
    with pytest.raises(UserError, match="priority='high'"):
        model.generate("abc", PARAMS, priority="high")


def test_the_names_of_the_arguments_are_vllms_too(model: LLM) -> None:
    [output] = model.generate(prompts="abc", sampling_params=PARAMS)
    assert len(output.outputs[0].token_ids) == PARAMS.max_tokens


def test_the_most_stop_strings_that_are_accepted_work(model: LLM) -> None:
    params = replace(PARAMS, stop=[f"{i} never" for i in range(MAX_STOPS)])
    assert model.generate("abc", params)[0].finished
    assert not model._worker.engine.has_work


def test_unknown_settings_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(TypeError, match="tensor_parallel_size"):
        make_llm(monkeypatch, tensor_parallel_size=2)
    with pytest.raises(UserError, match="activations"):
        make_llm(monkeypatch, activations="int4")


def test_closing_gives_everything_back_and_may_be_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    model = make_llm(monkeypatch)
    model.close()
    model.close()
    assert model.closed == [True]  # type: ignore[attr-defined]
    with pytest.raises(RuntimeError, match="shut down"):
        model.generate("abc", PARAMS)


def test_threads_share_a_model(model: LLM) -> None:
    texts: dict[int, str] = {}

    def ask(i: int) -> None:
        texts[i] = model.generate("abc"[i % 3], PARAMS)[0].outputs[0].text

    threads = [threading.Thread(target=ask, args=(i,)) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(texts) == 6
    assert texts[0] == texts[3] != texts[1] == texts[4]


def test_the_tokenizer_knows_more_ends_than_the_model(model: LLM) -> None:
    engine: Engine = model._worker.engine
    assert engine.traits.eos_ids == frozenset({EOS})


def test_a_second_prompt_is_text_like_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    params = SamplingParams(max_tokens=12, temperature=0.0, ignore_eos=True)
    with make_llm(monkeypatch) as llm:

        def say(options: dict[str, str]) -> list[int]:
            (output,) = llm.generate("abcdef", params, decoder="contrastive", options=options)
            return output.outputs[0].token_ids

        assert say({"negative_prompt": "def"}) == say({"keep": "3"})
        assert say({"negative_prompt": "def"}) != say({"strength": "0"})
        texts = _Texts(llm)
        ids = llm.tokenizer.encode("<|im_start|>abc", parse_special=True)
        assert texts.rewrite(ids, lambda text: text) == ids
        assert texts.rewrite(ids, lambda text: text.replace("b", "")) == [ids[0], ids[1], ids[3]]
