"""Structural tags: free text up to a trigger, and from there what a tag holds, until the tag ends.

In vLLM's two notations:

    {"triggers": ["<function="], "structures": [{"begin": "<function=f>", "schema": {...}, "end": "</function>"}]}
    {"format": {"type": "triggered_tags", "triggers": [...], "at_least_one": false, "stop_after_first": false,
                "tags": [{"begin": ..., "content": {"type": "json_schema", "json_schema": {...}}, "end": ...}]}}

A tag begins with one of the triggers, and free text holds none of them. Instead of a schema a content may have a
`regex`, {"type": "regex", "pattern": ...}. Nothing may follow a tag with stop_after_first.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from plait.core import bounds
from plait.core.errors import UserError

MAX_TAGS = 128
ACCEPTED = "structures and triggers, or a format of type triggered_tags"


class Tag(NamedTuple):
    """content: as a term of a grammar in Lark's notation."""

    begin: str
    content: str
    end: str


def grammar(source: str) -> str:
    """In Lark's notation. source: a JSON object. Raises UserError for what is no structural tag."""
    asked = json.loads(source)
    own = asked.get("format", asked)
    if not isinstance(own, Mapping):
        raise _wrong("format is no object")
    if "format" in asked and own.get("type") != "triggered_tags":
        raise _wrong(f"a format of type {str(own.get('type'))[:50]!r} is not known")
    triggers = [_text(each, "trigger") for each in _listed(own, "triggers")]
    is_old = "format" not in asked
    tags = [_tag(each, is_old=is_old) for each in _listed(own, "structures" if is_old else "tags")]
    groups: dict[str, list[Tag]] = {trigger: [] for trigger in triggers if trigger}
    for tag in tags:
        fitting = [trigger for trigger in groups if tag.begin.startswith(trigger)]
        if not fitting:
            raise _wrong(f"{tag.begin[:50]!r} begins with none of the triggers")
        groups[min(fitting, key=len)].append(tag)  # the one that is seen first
    if len(groups) < len(triggers) or not all(groups.values()):
        raise _wrong("a trigger is empty, there twice, or begins no tag")
    return _grammar(groups, _flag(own, "at_least_one"), _flag(own, "stop_after_first"))


def _grammar(groups: Mapping[str, list[Tag]], is_required: bool, is_last: bool) -> str:
    """groups: the tags of each trigger."""
    starts = {
        (False, False): "tag* rest",
        (False, True): "tag | rest",
        (True, False): "tag+ rest",
        (True, True): "tag",
    }
    rules = [f"start: {starts[is_required, is_last]}", "rest: TEXT", "TEXT: /(.|\\n)*/"]
    for number, (trigger, tags) in enumerate(groups.items()):
        rules.append(f"head{number}[lazy]: TEXT {json.dumps(trigger, ensure_ascii=False)}")
        rules.append(f"body{number}: {' | '.join(_body(tag, trigger) for tag in tags)}")
    ways = (f"head{number} body{number}" for number in range(len(groups)))
    return "\n".join([*rules, f"tag: {' | '.join(ways)}"])


def _body(tag: Tag, trigger: str) -> str:
    begin, end = tag.begin[len(trigger) :], tag.end
    around = [json.dumps(text, ensure_ascii=False) if text else "" for text in (begin, end)]
    return f"{around[0]} {tag.content} {around[1]}".strip()


def _tag(given: Any, *, is_old: bool) -> Tag:
    if not isinstance(given, Mapping):
        raise _wrong("a tag is no object")
    begin, end = _text(given.get("begin"), "begin"), _text(given.get("end"), "end")
    content = {"type": "json_schema", "json_schema": given.get("schema")}
    if not is_old:
        content = given.get("content", {})
    if isinstance(content, Mapping) and content.get("type") == "json_schema":
        schema = content.get("json_schema")
        if isinstance(schema, Mapping | bool):
            return Tag(begin, f"%json {json.dumps(_bounded(schema), ensure_ascii=False)}", end)
    if isinstance(content, Mapping) and content.get("type") == "regex":
        return Tag(begin, _expression(_text(content.get("pattern"), "pattern")), end)
    raise _wrong("a tag holds neither a JSON schema nor a regex")


def _bounded(schema: Mapping[str, Any] | bool) -> Any:
    """The schema, with nothing endless that means nothing."""
    if isinstance(schema, bool):
        return schema
    style = {"whitespace_flexible": True, "whitespace_pattern": bounds.WHITESPACE}
    return {**bounds.bounded(schema), "x-guidance": style}


def _expression(pattern: str) -> str:
    """Between slashes, so that those that it holds need a backslash."""
    escaped = re.sub(r"(\\.)|/", lambda found: found[1] or r"\/", pattern, flags=re.DOTALL)
    return f"/{escaped.replace(chr(10), chr(92) + 'n')}/" if pattern else '""'


def _listed(own: Mapping[str, Any], name: str) -> list[Any]:
    found = own.get(name)
    if not isinstance(found, list) or not 0 < len(found) <= MAX_TAGS:
        raise _wrong(f"{name} is no list of 1 to {MAX_TAGS}")
    return found


def _text(given: Any, what: str) -> str:
    if not isinstance(given, str):
        raise _wrong(f"{what} is no text")
    return given


def _flag(own: Mapping[str, Any], name: str) -> bool:
    found = own.get(name, False)
    if not isinstance(found, bool):
        raise _wrong(f"{name} is neither true nor false")
    return found


def _wrong(what: str) -> UserError:
    return UserError(f"structural_tag: {what}", ACCEPTED)
