"""Who is let in, how much is let in, and what the answers to the others look like."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from plait import LLM
from plait.core.errors import UserError
from plait.server.places import Places
from plait.server.settings import ServerConfig
from plait.server.state import Served
from tests.server.conftest import MODEL
from tests.server.running import Running, running, served, until

SHORT = {"prompt": "Hi", "max_tokens": 1}
ENDLESS = {"prompt": "Hi", "max_tokens": 1900, "ignore_eos": True, "stream": True}


@pytest.fixture(scope="module")
def strict(llm: LLM) -> Iterator[Running]:
    """Two keys, small bodies, one request at a time, one web page."""
    with running(
        lambda: served(llm, MODEL),
        api_keys=("one", "two"),
        max_body_bytes=4096,
        body_seconds=1.0,
        max_concurrent_requests=1,
        cors_origins=("http://page.test",),
    ) as one:
        yield one.ready()


def test_only_those_with_a_key_get_in(strict: Running) -> None:
    for headers in ({}, {"Authorization": "Bearer three"}, {"Authorization": "Basic one"}):
        answer = strict.post("/v1/completions", SHORT, **headers)
        assert answer.status_code == 401
        assert answer.json()["error"]["code"] == "invalid_api_key"
        assert strict.http.get("/metrics", headers=headers).status_code == 401
        assert strict.http.get("/props", headers=headers).status_code == 401
    for key in ("one", "two"):
        answer = strict.post("/v1/completions", SHORT, Authorization=f"Bearer {key}")
        assert answer.status_code == 200, answer.text
    assert strict.http.get("/health").status_code == 200


def test_no_key_is_ever_shown(strict: Running) -> None:
    props = strict.http.get("/props", headers={"Authorization": "Bearer one"})
    assert props.json()["needs_key"]
    assert '"one"' not in props.text


def cached(server: Running, key: str, prompt: str, **fields: str) -> int:
    """Tokens of a prompt that are found in the cache."""
    body = {"prompt": prompt, "max_tokens": 1, **fields}
    answer = server.post("/v1/completions", body, Authorization=f"Bearer {key}")
    assert answer.status_code == 200, answer.text
    found: int = answer.json()["usage"]["prompt_tokens_details"]["cached_tokens"]
    return found


def test_a_key_learns_nothing_of_the_prompts_of_others(strict: Running) -> None:
    prompt = "A secret that only the first key knows: " + "one two three " * 30
    assert [cached(strict, "one", prompt) > 64 for _ in range(2)] == [False, True]
    assert [cached(strict, "two", prompt) > 64 for _ in range(2)] == [False, True]
    assert [cached(strict, "one", prompt, cache_salt="a") > 64 for _ in range(2)] == [False, True]
    assert cached(strict, "two", prompt, cache_salt="a") == 0
    assert cached(strict, "one", prompt, cache_salt="b") == 0


def test_keys_that_belong_together_may_share(llm: LLM) -> None:
    prompt = "What all of them begin with: " + "four five six " * 30
    settings = {"api_keys": ("one", "two"), "isolate_prefix_cache": False}
    with running(lambda: served(llm, MODEL), **settings) as server:
        server.ready()
        assert [cached(server, key, prompt) > 64 for key in ("one", "two")] == [False, True]
        assert cached(server, "two", prompt, cache_salt="a") == 0
        assert cached(server, "one", prompt, cache_salt="a") > 64


def test_a_large_body_is_refused_before_it_has_come(strict: Running) -> None:
    key = {"Authorization": "Bearer one"}
    answer = strict.post("/v1/completions", SHORT | {"prompt": "x" * 5000}, **key)
    assert answer.status_code == 413
    assert "4,096" in answer.json()["error"]["message"]

    def chunks() -> Iterator[bytes]:
        for _ in range(10):
            yield b"x" * 1000

    answer = strict.http.post("/v1/completions", content=chunks(), headers=key)
    assert answer.status_code == 413
    assert strict.server.state.body_bytes.total == 0


def test_a_body_that_never_comes_is_not_waited_for(strict: Running) -> None:
    host, port = strict.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=30) as one:
        one.sendall(
            b"POST /v1/completions HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer one\r\n"
            b"Content-Length: 100\r\n\r\n{"
        )
        assert one.recv(1 << 16).startswith(b"HTTP/1.1 408")
    assert strict.server.state.body_bytes.total == 0


def test_the_second_of_one_at_a_time_is_told_when_to_come_again(strict: Running) -> None:
    key = {"Authorization": "Bearer one"}
    with strict.http.stream("POST", "/v1/completions", json=ENDLESS, headers=key) as first:
        assert first.status_code == 200
        answer = strict.post("/v1/completions", SHORT, **key)
        assert answer.status_code == 429
        assert int(answer.headers["Retry-After"]) >= 1
    until(lambda: strict.server.state.active.total == 0)
    assert strict.post("/v1/completions", SHORT, **key).status_code == 200


def test_only_the_named_page_may_ask(strict: Running, server: Running) -> None:
    ask = {"Access-Control-Request-Method": "POST", "Origin": "http://page.test"}
    allowed = strict.http.options("/v1/completions", headers=ask)
    assert allowed.headers["access-control-allow-origin"] == "http://page.test"
    other = strict.http.options("/v1/completions", headers=ask | {"Origin": "http://other.test"})
    assert "access-control-allow-origin" not in other.headers
    by_default = server.http.get("/health", headers={"Origin": "http://page.test"})
    assert "access-control-allow-origin" not in by_default.headers


def test_a_server_that_loads_says_so(llm: LLM) -> None:
    may_go_on = threading.Event()

    def slowly() -> Served:
        assert may_go_on.wait(60)
        return served(llm, MODEL)

    with running(slowly) as one:
        assert one.http.get("/health").status_code == 503
        assert one.http.get("/health").json() == {"status": "loading model"}
        for answer in (one.post("/v1/completions", SHORT), one.http.get("/v1/models")):
            assert answer.status_code == 503
            assert answer.json()["error"]["code"] == "loading"
        assert one.http.get("/metrics").status_code == 200
        may_go_on.set()
        one.ready()
        assert one.post("/v1/completions", SHORT).status_code == 200


def test_a_model_that_cannot_be_opened_ends_the_server() -> None:
    def fail() -> Served:
        raise UserError("no such model")

    with running(fail) as one:
        until(lambda: isinstance(one.server.state.error, UserError))


def test_keys_of_a_file(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text("a\nb\n")
    assert ServerConfig(api_keys=("c",), api_key_file=file).all_keys() == ("c", "a", "b")
    file.write_text("\n")
    with pytest.raises(UserError, match="holds no key"):
        ServerConfig(api_key_file=file).all_keys()
    with pytest.raises(UserError, match="is no file of keys"):
        ServerConfig(api_key_file=tmp_path / "none").all_keys()


@pytest.mark.parametrize(
    "fields",
    [{"port": -1}, {"max_choices": 0}, {"log_format": "xml"}, {"api_keys": ("",)}],
    ids=str,
)
def test_settings_out_of_range_are_refused(fields: dict[str, object]) -> None:
    with pytest.raises(UserError):
        ServerConfig(**fields)  # type: ignore[arg-type]


def test_unknown_paths_and_methods_get_the_same_kind_of_answer(server: Running) -> None:
    missing = server.http.get("/v2/none")
    assert (missing.status_code, missing.json()["error"]["type"]) == (404, "invalid_request_error")
    wrong = server.http.get("/v1/completions")
    assert (wrong.status_code, wrong.json()["error"]["type"]) == (405, "invalid_request_error")
    assert wrong.headers["X-Request-Id"].startswith("req_")


def test_metrics_slots_and_props(server: Running) -> None:
    before = _values(server)
    assert server.post("/v1/completions", SHORT | {"max_tokens": 3}).status_code == 200
    after = _values(server)
    assert after["plait_generated_tokens_total"] - before["plait_generated_tokens_total"] == 3
    counts = [one["plait_time_to_first_token_seconds_count"] for one in (before, after)]
    assert counts[1] - counts[0] == 1
    assert after["plait_requests_running"] == after["plait_requests_waiting"] == 0
    assert 0 <= after["plait_kv_cache_usage"] < 1
    assert server.http.get("/slots").json() == []
    assert server.http.get("/props").json()["context_length"] == 2048


def test_tokenize_and_back(server: Running) -> None:
    found = server.post("/tokenize", {"prompt": "Hello there", "return_token_strs": True}).json()
    assert found["count"] == len(found["tokens"]) == len(found["token_strs"])
    assert server.post("/detokenize", {"tokens": found["tokens"]}).json() == {
        "prompt": "Hello there"
    }
    chat = {"messages": [{"role": "user", "content": "Hi"}]}
    assert server.post("/tokenize", chat).json()["count"] > 5
    assert server.post("/tokenize", {}).status_code == 400
    assert server.post("/detokenize", {"tokens": [-1]}).status_code == 400


def test_a_silent_stream_is_kept_open_with_comments(llm: LLM) -> None:
    with running(lambda: served(llm, MODEL), ping_seconds=0.001) as one:
        answer = one.ready().post("/v1/completions", SHORT | {"stream": True, "max_tokens": 3})
        assert ": ping" in answer.text
        assert answer.text.endswith("data: [DONE]\n\n")
        data = [line for line in answer.text.splitlines() if line.startswith("data: {")]
        assert all(json.loads(line[6:])["object"] == "text_completion" for line in data)


def _values(server: Running) -> dict[str, float]:
    lines = server.http.get("/metrics").text.splitlines()
    pairs = (line.split(" ") for line in lines if not line.startswith("#") and "{" not in line)
    return {name: float(value) for name, value in pairs}


def test_time_that_is_over_is_a_status_of_its_own(server: Running) -> None:
    body = {"prompt": "Once", "max_tokens": 1900, "ignore_eos": True, "deadline": 0.3}
    answer = server.post("/v1/completions", body)
    assert answer.status_code == 408
    assert answer.json()["error"]["code"] == "deadline"
    last = server.events("/v1/completions", body)[-1]
    assert last["error"]["code"] == "deadline"


def test_a_full_queue_says_when_to_come_again() -> None:
    with (
        LLM(MODEL, max_model_len=256, max_num_seqs=1, max_queued_requests=1) as small,
        running(lambda: served(small, MODEL)) as one,
    ):
        one.ready()
        body = {"prompt": ["Once", "Upon", "A", "Time"], "max_tokens": 4}
        answer = one.post("/v1/completions", body)
        assert answer.status_code == 429, answer.text
        assert int(answer.headers["Retry-After"]) >= 1
        until(lambda: one.http.get("/slots").json() == [])
        assert one.post("/v1/completions", SHORT).status_code == 200


def test_who_fills_the_house_does_not_keep_the_others_out(llm: LLM) -> None:
    keys = [{"Authorization": f"Bearer {key}"} for key in ("greedy", "modest")]
    with (
        running(
            lambda: served(llm, MODEL),
            api_keys=("greedy", "modest"),
            max_concurrent_requests=2,
        ) as one,
        ExitStack() as stack,
    ):
        one.ready()
        for _ in range(2):
            ask = one.http.stream("POST", "/v1/completions", json=ENDLESS, headers=keys[0])
            assert stack.enter_context(ask).status_code == 200
        assert one.post("/v1/completions", SHORT, **keys[0]).status_code == 429
        assert one.post("/v1/completions", SHORT, **keys[1]).status_code == 200
        ask = one.http.stream("POST", "/v1/completions", json=ENDLESS, headers=keys[1])
        assert stack.enter_context(ask).status_code == 200
        assert one.post("/v1/completions", SHORT, **keys[1]).status_code == 429
        assert one.server.state.active.total == 3


def test_places_are_shared_and_bounded() -> None:
    places = Places(12)
    assert all(places.take("a") for _ in range(12))
    assert not places.take("a")
    taken = {name: sum(places.take(name) for _ in range(20)) for name in "bcd"}
    assert taken == {"b": 6, "c": 4, "d": 3}
    assert places.total == 25
    for _ in range(12):
        places.give("a")
    assert not places.take("b")  # 13 are still taken, and it has its share
    assert places.take("a")
    alone = Places(12)
    assert not alone.take("a", 13)
    assert alone.take("a", 12)
    alone.give("a", 12)
    assert alone.total == 0
