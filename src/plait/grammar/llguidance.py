"""Grammars by llguidance: derivatives of regular expressions below an Earley parser, over a trie of the vocabulary.

Schemas and grammars come from strangers, so all that a step or a compilation may take is bounded: the size of the
source (core/structured.py), of the grammar, the work on its expressions and the states of its lexer. A grammar that
comes to a bound is refused, or ends its own request.
"""

from __future__ import annotations

import json
import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import llguidance
import numpy as np
from llguidance.gbnf_to_lark import GbnfToLarkError, any_to_lark

from plait.core import bounds
from plait.core.errors import UserError
from plait.core.structured import StructuredOutputs
from plait.core.window import Masks
from plait.grammar import base, completing, numbers, open_end, tags
from plait.grammar.base import Lexicon, Words

MAX_GRAMMAR_SYMBOLS = 10_000
"""Compiling as many takes most of a second."""
MAX_ROW_ITEMS = 20_000
"""Ways in which a text may go on, of a parser; an object with n optional properties has 4n."""
MAX_CACHE_BYTES = 64 << 20
MATCHER_BYTES, BYTES_PER_SOURCE_BYTE = 64 << 10, 64
"""What a compiled grammar is taken to hold: measured, 37 MB for 1 MB of source."""

_WORD_BITS = 32
_JSON = ("json", "json_object")


def limits() -> llguidance.LLParserLimits:
    """Bounds of a compilation and of each step (about 15 ms)."""
    return llguidance.LLParserLimits(
        max_items_in_row=MAX_ROW_ITEMS,
        initial_lexer_fuel=1_000_000,
        step_lexer_fuel=200_000,
        step_max_items=50_000,
        max_lexer_states=50_000,
        max_grammar_size=MAX_GRAMMAR_SYMBOLS,
        verbose_errors=False,
    )


class State(base.State):
    """A matcher, and how many tokens it has consumed."""

    def __init__(self, matcher: llguidance.LLMatcher, num_words: int, num_tokens: int = 0) -> None:
        """num_words: of the masks that the matcher writes."""
        self._matcher = matcher
        self._own = np.empty(
            num_words, np.uint32
        )  # where the matcher writes: to ask for an address takes long
        self._address, self._num_bytes = self._own.ctypes.data, self._own.nbytes
        self._row: Masks = self._own[None]
        self.num_tokens = num_tokens

    @property
    def is_accepting(self) -> bool:
        return self._matcher.is_accepting()

    @property
    def is_finished(self) -> bool:
        return self._matcher.is_stopped()

    def current(self, num_words: int) -> Masks:
        if num_words != len(self._own):
            return super().current(num_words)
        self._compute()
        return self._row

    def fill(self, mask: Words) -> None:
        self._compute()
        own = self._own
        if len(mask) == len(own):
            mask[:] = own
        else:
            mask[: len(own)], mask[len(own) :] = own, 0

    def forced(self) -> int | None:
        tokens = self._matcher.compute_ff_tokens()
        if tokens:
            return tokens[0]
        self._check()
        return None

    def advance(self, token: int) -> bool:
        count = self._matcher.try_consume_tokens([token])
        if not count:
            self._check()
        self.num_tokens += count
        return count == 1

    def rollback(self, count: int) -> None:
        is_done = self._matcher.rollback(count)
        self._check()
        assert is_done, "tokens were taken back that had not come"
        self.num_tokens -= count

    def fork(self) -> State:
        return State(self._matcher.deep_copy(), len(self._own), self.num_tokens)

    def _compute(self) -> None:
        self._matcher.unsafe_compute_mask_ptr(self._address, self._num_bytes)
        self._check()

    def _check(self) -> None:
        if self._matcher.is_error():
            if "NoExtensionBias" in self._matcher.get_error():
                raise UserError("the grammar wants letters that the model's tokenizer cannot spell")
            raise UserError(f"the grammar takes too much: {_first_line(self._matcher.get_error())}")


class Compiler(base.Compiler):
    """The library's tokenizer is built when it is first needed."""

    def __init__(
        self,
        lexicon: Callable[[], Lexicon],
        eos_ids: frozenset[int],
        vocab_size: int,
        max_cache_bytes: int = MAX_CACHE_BYTES,
    ) -> None:
        """eos_ids: tokens that end an answer. vocab_size: of the logits, which may be more than the tokenizer knows."""
        self._lexicon = lexicon
        self._eos_ids = sorted(eos_ids)
        self._limits = limits()
        self._lock = threading.Lock()
        self._tokenizer: llguidance.LLTokenizer | None = None
        self._cache: OrderedDict[str, llguidance.LLMatcher] = OrderedDict()
        self._max_cache_bytes = max_cache_bytes
        self.cached_bytes = 0
        self.num_words = -(-vocab_size // _WORD_BITS)
        self._endings = open_end.Endings(lexicon, self.num_words)
        self._digits = numbers.Digits(lexicon, self.num_words)
        self.completer = completing.Completer(lexicon, eos_ids, self.num_words)

    def compile(self, asked: StructuredOutputs) -> base.State:
        source = _source(asked)
        with self._lock:
            matcher = self._cache.get(source)
            if matcher is not None:
                self._cache.move_to_end(source)
        if matcher is None:
            matcher = self._compiled(source, asked.kind)
        own_words = -(-self._own_tokenizer().vocab_size // _WORD_BITS)
        made: base.State = State(matcher.deep_copy(), min(own_words, self.num_words))
        if asked.kind in _JSON and not asked.open_end:
            made = numbers.State(made, self._digits)
        return open_end.State(made, self._endings) if asked.open_end else made

    def _compiled(self, source: str, kind: str) -> llguidance.LLMatcher:
        """Without the lock: one that takes long is in nobody's way."""
        tokenizer = self._own_tokenizer()
        matcher = llguidance.LLMatcher(tokenizer, source, log_level=0, limits=self._limits)
        if matcher.is_error():
            raise UserError(
                f"{kind}: {_first_line(matcher.get_error())}",
                "what llguidance understands, of moderate size",
            )
        with self._lock:
            if source not in self._cache:
                self._cache[source] = matcher
                self.cached_bytes += _size(source)
            while self.cached_bytes > self._max_cache_bytes:
                oldest, _ = self._cache.popitem(last=False)
                self.cached_bytes -= _size(oldest)
        return matcher

    def _own_tokenizer(self) -> llguidance.LLTokenizer:
        with self._lock:
            if self._tokenizer is None:
                wrapped: Any = _Wrapped(self._lexicon(), self._eos_ids)
                self._tokenizer = llguidance.LLTokenizer(wrapped, eos_token=self._eos_ids)
            return self._tokenizer


class _Wrapped:
    """A lexicon as the library wants to see one."""

    is_tokenizer_wrapper = True
    bos_token_id = None

    def __init__(self, lexicon: Lexicon, eos_ids: list[int]) -> None:
        if not eos_ids:
            raise UserError("structured output needs a model that has a token to end with")
        self._lexicon = lexicon
        self.eos_token_id = eos_ids[0]
        self.tokens = lexicon.vocabulary()
        self.special_token_ids = sorted(lexicon.special_ids | set(eos_ids))

    def __call__(self, text: str) -> list[int]:
        return self._lexicon.encode(text, add_special=False)


def _source(asked: StructuredOutputs) -> str:
    """In the library's own notation."""
    matcher = llguidance.LLMatcher
    if asked.kind in _JSON:
        options: Any = {"whitespace_flexible": False}
        if not asked.disable_any_whitespace:
            options = {"whitespace_flexible": True, "whitespace_pattern": bounds.WHITESPACE}
        try:
            schema = json.dumps(bounds.bounded(json.loads(asked.texts[0])), ensure_ascii=False)
            return matcher.grammar_from_json_schema(schema, overrides=options)
        except RecursionError:
            raise UserError("json: too deep", "a schema of moderate depth") from None
        except ValueError as error:
            raise UserError(f"json: {_first_line(str(error))}", "a JSON schema") from None
    if asked.kind == "regex":
        return matcher.grammar_from_regex(asked.texts[0])
    if asked.kind == "choice":
        texts = (json.dumps(text, ensure_ascii=False) for text in asked.texts)
        return matcher.grammar_from_lark("start: " + " | ".join(texts))
    if asked.kind == "structural_tag":
        return matcher.grammar_from_lark(tags.grammar(asked.texts[0]))
    try:
        return matcher.grammar_from_lark(any_to_lark(asked.texts[0]))
    except (GbnfToLarkError, ValueError, RecursionError) as error:
        raise UserError(f"grammar: {_first_line(str(error))}", "Lark's notation, or EBNF") from None


def _size(source: str) -> int:
    return MATCHER_BYTES + BYTES_PER_SOURCE_BYTE * len(source)


def _first_line(message: str) -> str:
    line = message.strip().partition("\n")[0]
    return line if len(line) <= 300 else line[:300] + "…"
