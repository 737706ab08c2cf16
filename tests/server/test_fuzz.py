"""Bodies made from the server's own description, and bent: whatever comes, it is no fault of the server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from plait import LLM
from plait.server.app import GETS, POSTS
from tests.server.conftest import MODEL
from tests.server.running import Running, running, served

ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.sampled_from([-1, 0, 2**31, 2**63, 10**30, 1e308, -0.5, "", "\0", "x" * 5000, [], {}, [[]]]),
    st.text(max_size=5),
    st.lists(st.integers(-3, 3), max_size=3),
    st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
)


class Bodies:
    """Strategies for the schemas of an OpenAPI description."""

    def __init__(self, described: dict[str, Any]) -> None:
        self.described = described

    def of(self, path: str) -> st.SearchStrategy[Any]:
        content = self.described["paths"][path]["post"]["requestBody"]["content"]
        return self._value(content["application/json"]["schema"])

    def _value(self, schema: dict[str, Any]) -> st.SearchStrategy[Any]:
        if "$ref" in schema:
            return self._value(self._named(schema["$ref"]))
        if "anyOf" in schema:
            return st.one_of(*map(self._value, schema["anyOf"]))
        if "const" in schema:
            return st.just(schema["const"])
        if "enum" in schema:
            return st.sampled_from(schema["enum"])
        plain: dict[str, st.SearchStrategy[Any]] = {
            "string": st.sampled_from(["smollm2-135m", "user", "Hello", "é\n", "<|im_end|>", ""]),
            "integer": st.one_of(st.integers(-1, 6), st.integers()),
            "number": st.one_of(st.floats(-3, 3), st.floats(allow_nan=False, allow_infinity=False)),
            "boolean": st.booleans(),
            "null": st.none(),
        }
        kind = schema.get("type")
        if kind == "array":
            return st.lists(self._value(schema["items"]), max_size=3)
        if kind == "object":
            return self._object(schema)
        return plain.get(str(kind), ODD)

    def _object(self, schema: dict[str, Any]) -> st.SearchStrategy[Any]:
        fields = {name: self._value(one) for name, one in schema.get("properties", {}).items()}
        required = {name: fields[name] for name in schema.get("required", [])}
        if "content" in fields:  # a message without any is right only where it calls tools
            required["content"] = st.one_of(st.just("Hello"), fields["content"])
        optional = {name: fields[name] for name in fields.keys() - required.keys()}
        some = st.lists(st.sampled_from(sorted(optional) or [""]), max_size=3, unique=True)
        return some.flatmap(
            lambda names: st.fixed_dictionaries(
                required | {name: optional[name] for name in names if name}
            )
        )

    def _named(self, reference: str) -> dict[str, Any]:
        found: dict[str, Any] = self.described["components"]["schemas"][reference.split("/")[-1]]
        return found


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    """One that lets no request run for long."""
    with (
        LLM(MODEL, max_model_len=256, max_request_tokens=16) as llm,
        running(lambda: served(llm, MODEL)) as one,
    ):
        yield one.ready()


@pytest.fixture(scope="module")
def described(server: Running) -> dict[str, Any]:
    found: dict[str, Any] = server.http.get("/openapi.json").json()
    return found


def test_the_description_is_whole(described: dict[str, Any]) -> None:
    paths = set(described["paths"])
    assert paths == {*POSTS, *(path.replace(":path", "") for path in GETS)}


@pytest.mark.parametrize("path", sorted(POSTS))
def test_no_body_is_the_servers_fault(
    server: Running, described: dict[str, Any], path: str
) -> None:
    kinds = []
    field = st.sampled_from(
        ["", "model", "prompt", "messages", "input", "n", "stop", "temperature"]
    )

    @settings(
        max_examples=50,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(Bodies(described).of(path), field, ODD)
    def ask(body: Any, name: str, value: Any) -> None:
        if name and isinstance(body, dict):
            body[name] = value
        content = json.dumps(body).encode("utf-8", "replace")
        answer = server.http.post(
            path, content=content, headers={"Content-Type": "application/json"}
        )
        kinds.append(answer.status_code)
        assert answer.status_code < 500, (body, answer.text)
        assert "server_error" not in answer.text
        if answer.status_code != 200:
            assert answer.json()["error"]["message"]

    ask()
    assert {200, 400} <= set(kinds)
    assert server.http.get("/health").status_code == 200


@pytest.mark.parametrize(
    "content",
    [b"", b"null", b"[]", b"{", b"\xff\xfe", b"[" * 100_000, b'{"a":' * 50_000, b'{"n": NaN}'],
    ids=lambda content: repr(content[:8]),
)
@pytest.mark.parametrize("path", sorted(POSTS))
def test_what_is_no_request_is_refused(server: Running, path: str, content: bytes) -> None:
    answer = server.http.post(path, content=content, headers={"Content-Type": "application/json"})
    assert answer.status_code == 400
    assert answer.json()["error"]["message"]


def test_a_lone_surrogate_is_refused(server: Running) -> None:
    for content in (b'{"prompt": "\\ud800"}', b'{"prompt": "a", "\\ud800": 1}'):
        answer = server.http.post(
            "/v1/completions", content=content, headers={"Content-Type": "application/json"}
        )
        assert answer.status_code == 400
        assert answer.json()["error"]["message"]
