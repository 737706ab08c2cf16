"""Chat templates: what they print, and what they are kept from doing."""

from __future__ import annotations

import json
from typing import Any

import pytest
from jinja2.sandbox import ImmutableSandboxedEnvironment

from plait.core.errors import UserError
from plait.text import template as templates
from plait.text.template import render_chat
from tests.text import models, small

MESSAGES: list[dict[str, Any]] = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Ünïcode 你好 {{ 1 + 1 }} {% raw %} </s>"},
    {"role": "assistant", "content": " a\nb "},
    {"role": "user", "content": ""},
]
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "weather",
            "description": 'Says <what> it\'s & how "warm".',
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
        },
    }
]
CALLS = [
    {"role": "user", "content": "Warm?"},
    {
        "role": "assistant",
        "content": None,
        "tool_calls": [
            {"id": "1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}
        ],
    },
    {"role": "tool", "content": "21 °C", "tool_call_id": "1"},
]


def plainly(template: str, **names: Any) -> str:
    """What jinja2's own sandbox makes of a template that may be trusted."""
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    )
    environment.filters["tojson"] = lambda value: json.dumps(value, ensure_ascii=False)
    return environment.from_string(template).render(**names)


@pytest.mark.parametrize(
    "name", ["smollm2-135m", pytest.param("qwen2.5-coder-0.5b", marks=pytest.mark.large)]
)
@pytest.mark.parametrize("add_generation_prompt", [True, False])
@pytest.mark.parametrize("tools", [None, TOOLS])
def test_real_templates_print_what_jinja2_prints(
    name: str, add_generation_prompt: bool, tools: Any
) -> None:
    template = models.tokenizer(name).chat_template or ""
    found = render_chat(
        template, MESSAGES, add_generation_prompt=add_generation_prompt, tools=tools
    )
    assert found == plainly(
        template, messages=MESSAGES, add_generation_prompt=add_generation_prompt, tools=tools
    )


@pytest.mark.large
def test_calls_of_tools_are_printed() -> None:
    template = models.tokenizer("qwen2.5-coder-0.5b").chat_template or ""
    text = render_chat(template, CALLS, tools=TOOLS)
    assert '<tool_call>\n{"name": "weather", "arguments": {}}\n</tool_call>' in text
    assert "<tool_response>\n21 °C\n</tool_response>" in text


CONSTRUCTS = [
    "{% for m in messages %}{{ loop.index0 }}{{ loop.first }}{{ loop.last }}{{ loop.length }}"
    "{{ loop.revindex }}{{ loop.previtem is defined }}{% endfor %}",
    "{% for m in messages if m.role == 'user' %}{{ m['content'] }}{% else %}none{% endfor %}",
    "{% for m in messages %}{% if loop.index == 2 %}{% continue %}{% endif %}{{ m.role }}{% endfor %}",
    "{% for k, v in {'b': 1, 'a': [2]}.items() %}{{ k }}={{ v }};{% endfor %}",
    "{% set ns = namespace(n=0) %}{% for m in messages[1:] %}{% set ns.n = ns.n + 1 %}{% endfor %}"
    "{{ ns.n }}",
    "{% macro twice(x, y='-') %}{{ x }}{{ y }}{{ x }}{% endmacro %}{{ twice('a') }}{{ twice(1, y=2) }}",
    "{% macro deep(n) %}{% if n %}{{ n }}{{ deep(n - 1) }}{% endif %}{% endmacro %}{{ deep(5) }}",
    "{% macro wrap() %}<{{ caller() }}>{% endmacro %}{% call wrap() %}in{% endcall %}",
    "{% set x %}block {{ messages | length }}{% endset %}{{ x | trim | upper }}",
    "{{ 'a' ~ 1 ~ none ~ [1, 'b'] }}{{ 'a' * 3 }}{{ 7 // 2 }}{{ 7 % 4 }}{{ 2 ** 5 }}{{ [1] + [2] }}",
    "{{ '%s-%03d %.2f' % ('a', 7, 1.5) }}{{ '%s' | format('x') }}{{ 'abc'[::-1] }}{{ messages[-1].role }}",
    "{{ messages | map(attribute='role') | join(', ') }}|{{ messages | selectattr('role', 'eq', 'user')"
    " | list | length }}|{{ [3, 1, 2] | sort | first }}|{{ [1, 2] | sum }}|{{ [1, 1] | unique | list }}",
    "{{ 'a-b-a' | replace('a', 'c') }}{{ 'a-b'.split('-') }}{{ ' x '.strip() }}{{ '-'.join(['a', 'b']) }}",
    "{{ 'x' in messages[0] }}{{ 'role' in messages[0] }}{{ 'rie' in messages[0].content }}{{ 1 < 2 < 3 }}",
    "{{ messages is iterable }}{{ messages is string }}{{ nothing is defined }}{{ none is none }}",
    "{{ nothing | default('d') }}{{ {'a': 1}.get('b', 2) }}{{ '1' | int + 1 }}{{ (1, 2) | last }}",
    "{{ 'yes' if messages else 'no' }}{% if not nothing %}x{% elif 1 %}y{% endif %}{# comment #}",
    "   {%- if true %}\n  a\n  {% endif %}\n b\n",
    "{{ 'one\ntwo' | indent(4) }}{{ 'A' | lower }}{{ 'ab cd' | title }}{{ 'ab' | capitalize }}",
    "{{ {'a': [1, {'b': 'é<&>'}]} | tojson }}{{ 3.7 | int }}{{ -3 | abs }}{{ 2.5 | round }}",
    "{% set a, b = 1, 2 %}{{ a }}{{ b }}{% with c = 3 %}{{ c }}{% endwith %}{{ c is defined }}",
    "{{ 'content' in messages[0] and messages[0]['content'] is not none }}{{ messages[9] }}",
    "{% filter upper %}abc{% endfilter %}{{ dict(a=1).a }}{{ range(3) | list }}{{ range(2, 9, 3)[1] }}",
]


@pytest.mark.parametrize("template", CONSTRUCTS)
def test_constructs_mean_what_they_mean_in_jinja2(template: str) -> None:
    assert render_chat(template, MESSAGES) == plainly(template, messages=MESSAGES)


def test_what_publishers_add_to_jinja2() -> None:
    assert render_chat("{% generation %}a{% endgeneration %}b", MESSAGES) == "ab"
    assert len(render_chat("{{ strftime_now('%d %b %Y') }}", MESSAGES)) == len("01 Jan 2026")
    assert render_chat("{{ {'b': 1, 'a': 2} | tojson(indent=2, sort_keys=true) }}", MESSAGES) == (
        '{\n  "a": 2,\n  "b": 1\n}'
    )
    assert (
        render_chat("{{ bos_token }}{{ x }}", MESSAGES, bos_token="<s>", extra={"x": 1}) == "<s>1"
    )


def test_a_template_may_refuse() -> None:
    with pytest.raises(UserError, match="does not accept these messages: roles must alternate"):
        render_chat("{{ raise_exception('roles must alternate') }}", MESSAGES)


NOT_ALLOWED = [
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "{{ messages.__class__.__base__.x }}",
    "{{ raise_exception.__globals__['sys'] }}",
    "{{ namespace.__init__.__globals__ }}x{{ namespace.__init__.x }}",
    "{{ self._TemplateReference__context.x }}",
    "{{ dict.fromkeys([1]) }}",
    "{{ (5).to_bytes(3) }}",
    "{{ messages.append(1) }}",
    "{{ messages[0].update(a=1) }}",
    "{{ messages[0].clear() }}",
    "{{ '{0.__class__}'.format(1) }}",
    "{{ '{a}'.format_map({'a': 1}) }}",
    "{{ messages | attr('__class__') }}",
    "{{ 'a'.encode() }}",
    "{% include 'x' %}",
    "{% import 'x' as y %}",
    "{% extends 'x' %}",
    "{{ lipsum() }}",
    "{{ cycler(1).next() }}",
    "{{ strftime_now('%99999d') }}",
    "{{ nothing.attribute }}",
    "{{ 1 / 0 }}",
    "{{ [1] | random }}",
]


@pytest.mark.parametrize("template", NOT_ALLOWED)
def test_templates_reach_nothing_but_the_conversation(template: str) -> None:
    messages = [{"role": "user", "content": "a"}]
    with pytest.raises(UserError, match="chat template"):
        render_chat(template, messages)
    assert messages == [{"role": "user", "content": "a"}]


GROW = "{% set ns = namespace(x=START) %}{% for i in range(200) %}{% set ns.x = STEP %}{% endfor %}"


def growing(start: str, step: str, then: str = "") -> str:
    return GROW.replace("START", start).replace("STEP", step) + then


TOO_MUCH = [
    "{% for i in range(10 ** 9) %}{% endfor %}",
    "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
    "{% for i in range(99999) %}{% for j in range(99999) %}x{% endfor %}{% endfor %}",
    "{% for i in range(9) recursive %}{{ loop(range(9)) }}{% endfor %}",
    "{{ 'a' * 10 ** 12 }}",
    "{{ 10 ** 9 * 'a' }}",
    "{{ ([1] * 10 ** 9) | length }}",
    "{{ 10 ** (10 ** 10) }}",
    growing("'aaaaaaaaaaaaaaaa'", "ns.x ~ ns.x"),
    growing("'aaaaaaaaaaaaaaaa'", "ns.x + ns.x"),
    growing("'aaaaaaaaaaaaaaaa'", "[ns.x, ns.x] | join"),
    growing("'aaaaaaaaaaaaaaaa'", "ns.x | replace('a', 'aa')"),
    growing("'aaaaaaaaaaaaaaaa'", "ns.x.replace('a', 'aa')"),
    growing("'aaaaaaaaaaaaaaaa'", "'%s%s' % (ns.x, ns.x)"),
    growing("'aaaaaaaaaaaaaaaa'", "'%s%s' | format(ns.x, ns.x)"),
    growing("'aaaaaaaaaaaaaaaa'", "''.join([ns.x, ns.x])"),
    growing("[1]", "ns.x + ns.x"),
    growing("2", "ns.x * ns.x"),
    growing("[1]", "[ns.x, ns.x]", "{{ ns.x }}"),
    growing("[1]", "[ns.x, ns.x]", "{{ ns.x | tojson }}"),
    growing("[1]", "[ns.x, ns.x]", "{{ ns.x | string }}"),
    growing("[1]", "[ns.x, ns.x]", "{{ [ns.x] | join }}"),
    growing("[1]", "[ns.x, ns.x]", "{{ {'a': ns.x}.items() }}"),
    growing(
        "[1]", "[ns.x, ns.x]", "{% set a = namespace(x=[1]) %}{{ ns.x == [ns.x[0], ns.x[1]] }}"
    ),
    growing("[1]", "[ns.x, ns.x]", "{{ ns.x is eq([ns.x[0], ns.x[1]]) }}"),
    growing("[1]", "[ns.x, ns.x]", "{{ [ns.x, ns.x] | sort }}"),
    growing("(1,)", "(ns.x, ns.x)", "{{ [ns.x] | unique | list }}"),
    "{% macro m(n) %}{% if n %}{{ m(n - 1) }}{{ m(n - 1) }}{% endif %}{% endmacro %}{{ m(60) }}",
    "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
    "{% set x %}{% for i in range(99999) %}{{ 'a' * 99999 }}{% endfor %}{% endset %}",
    "{% for i in range(99999) %}{% set x = ('a' * 99999)[1:] %}{% endfor %}",
    "{% set x = [[1] * 999] * 999 %}{% for i in range(999) %}{% if x == 3 %}{% endif %}{% endfor %}",
    "{{ (['b' * 99999] * 99999) | string }}",
    "{{ (['a'] * 99999) | join('b' * 99999) }}",
    "{{ ('b' * 99999).join(['a'] * 99999) }}",
    "{{ '%999999999d' % 1 }}",
    "{{ '%*d' % (999999999, 1) }}",
    "{{ ('%s' * 99999) % (('a' * 99999,) * 99999) }}",
    "{{ 'a' | center(999999999) }}",
    "{{ 'a'.ljust(999999999) }}",
    "{{ 'a' | indent(999999999) }}",
    "{{ [1] | tojson(indent=999999999) }}",
    "{{ ([[1] * 99] * 9999) | sum(start=[]) }}",
    "{{ " + "(" * 3_000 + "1" + ")" * 3_000 + " }}",
    "{{ " + "-" * 3_000 + "1 }}",
    "{{ 1" + " + 1" * 5_000 + " }}",
    "{{ " + "9" * 9_999 + " }}",
    "{% if 1 %}" * 500,
    "x" * (templates.MAX_TEMPLATE_LETTERS + 1),
]


@pytest.mark.timeout(60)
@pytest.mark.parametrize("template", TOO_MUCH, ids=[each[:60] for each in TOO_MUCH])
def test_templates_cannot_run_on_or_grow(template: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(templates, "UNITS", 100_000)  # a tenth, to be quick
    with pytest.raises(UserError, match="chat template"):
        render_chat(template, [{"role": "user", "content": "a"}])


@pytest.mark.timeout(60)
def test_the_allowance_ends_while_somebody_waits() -> None:
    for template in (growing("[1]", "[ns.x, ns.x]", "{{ ns.x }}"), TOO_MUCH[2]):
        with pytest.raises(UserError, match="more work than any conversation"):
            render_chat(template, MESSAGES)


def test_a_namespace_prints_without_what_it_holds() -> None:
    text = render_chat(growing("[1]", "[ns.x, ns.x]", "{{ ns }}"), MESSAGES)
    assert text == "<namespace>"


def test_long_conversations_are_within_the_allowance() -> None:
    messages = [{"role": ("user", "assistant")[i % 2], "content": "word " * 40} for i in range(999)]
    text = render_chat(small.CHATML, messages)
    assert text == plainly(small.CHATML, messages=messages, add_generation_prompt=True)
    long = [{"role": "user", "content": "x" * 3_000_000}]
    assert len(render_chat(small.CHATML, long)) > 3_000_000


def test_a_template_that_is_no_jinja_names_its_line() -> None:
    with pytest.raises(UserError, match="line 2 of the chat template is wrong"):
        render_chat("a\n{% if %}", MESSAGES)


BAD_MESSAGES: list[tuple[Any, str]] = [
    ([], "there are no messages"),
    ("hello", "messages is not a list"),
    ({"role": "user"}, "messages is not a list"),
    (["hello"], r"messages\[0\] is not an object"),
    ([{"content": "a"}], r"messages\[0\] has no usable role: None"),
    ([{"role": "a b", "content": "a"}], "has no usable role: 'a b'"),
    ([{"role": "<|im_end|>", "content": "a"}], "has no usable role"),
    ([{"role": "user"}], r"messages\[0\] has no content"),
    ([{"role": "user", "content": 3}], r"messages\[0\] has no content"),
    ([{"role": "user", "content": [{"type": "image_url"}]}], "is of type 'image_url'"),
    ([{"role": "user", "content": [{"type": "text"}]}], r"content\[0\] has no text"),
    ([{"role": "user", "content": "a", "x": object()}], "holds a object"),
    ([{"role": "user", "content": "a", "x": {1: 2}}], "holds a dict"),
]


@pytest.mark.parametrize(("messages", "problem"), BAD_MESSAGES)
def test_messages_that_are_refused(messages: Any, problem: str) -> None:
    with pytest.raises(UserError, match=problem):
        render_chat(small.CHATML, messages)


def test_messages_that_are_nested_too_deeply() -> None:
    deep: Any = "a"
    for _ in range(100):
        deep = [deep]
    with pytest.raises(UserError, match="nested deeper"):
        render_chat(small.CHATML, [{"role": "user", "content": "a", "x": deep}])


def test_content_in_parts_is_one_text() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    text = render_chat("{{ messages[0].content }}", [{"role": "user", "content": parts}])
    assert text == "ab"
