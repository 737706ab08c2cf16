"""The state of a program: the tokens so far, to which it adds texts and holes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar, overload

from plait.core.errors import UserError
from plait.programs.lm import conversation, distribution, hole
from plait.programs.lm.asking import Asking, Common, derived_seed, together
from plait.programs.lm.constraints import Constraint, one_of, stops_at, stops_before
from plait.programs.lm.conversation import Message
from plait.programs.lm.decoders import Argmax, Decoder, Written
from plait.programs.lm.distribution import Distribution
from plait.text.tokenizer import Tokenizer

Value = TypeVar("Value", str, int, float, bool)


class Prompt:
    """What a program is given first: `p += text` adds to it, `await p.gen(...)` lets the model go on.

    Texts that follow each other are read as one. Spaces at the end of a text wait for what comes next, so that
    a word is never cut off from the space before it: the answer begins with them, and they are no part of its value.
    A control token written out in a text is read as the letters it is made of; `message` makes real ones.
    """

    def __init__(
        self,
        asking: Asking,
        decoder: Decoder | None = None,
        seed: int = 0,
        path: tuple[int, ...] = (),
    ) -> None:
        """decoder: for holes that name none; None for argmax. seed, path: what its random numbers are made of."""
        self._asking = asking
        self._decoder = decoder or Argmax()
        self._seed, self._path, self._num_holes, self._num_forks = seed, path, 0, 0
        tokenizer = asking.llm.tokenizer
        self._ids = [tokenizer.bos_id] if tokenizer.add_bos and tokenizer.bos_id is not None else []
        self._num_read = 0  # tokens whose K/V lies in the cache
        self._common: Common | None = None
        self._pending, self._said = "", ""
        self._last: tuple[str, list[int]] = ("", [])
        self._messages: list[Message] = []
        self._unread: list[Message] = []
        asking.ledger.prompt_tokens += len(self._ids)

    @property
    def text(self) -> str:
        """All of it, what nobody has read yet included."""
        return self._tokenizer.decode(self._ids, at_start=True) + self._pending

    @property
    def token_ids(self) -> list[int]:
        """What has become tokens so far; a copy."""
        return list(self._ids)

    def __iadd__(self, text: str) -> Prompt:
        if not isinstance(text, str):
            raise UserError(
                f"{type(text).__name__} cannot be added to a prompt", "text: f'{value}'"
            )
        if self._unread:
            self._read_messages()
        self._pending += text
        return self

    def message(self, role: str, content: str) -> None:
        """Add a turn of a conversation, in the model's own template; what the model says then is the assistant's turn.
        Before the first, nothing else may have been added."""
        if not self._messages and (self._pending or len(self._ids) > 1):
            raise UserError("a conversation cannot begin in the middle of a text", "messages first")
        self._unread.append({"role": role, "content": content})

    @overload
    async def gen(
        self,
        kind: type[Value],
        constraint: Constraint | None = None,
        *,
        stops_at: str | Sequence[str] = (),
        stops_before: str | Sequence[str] = (),
        max_tokens: int | None = None,
        decoder: Decoder | None = None,
    ) -> Value: ...

    @overload
    async def gen(
        self,
        kind: Constraint | None = None,
        constraint: Constraint | None = None,
        *,
        stops_at: str | Sequence[str] = (),
        stops_before: str | Sequence[str] = (),
        max_tokens: int | None = None,
        decoder: Decoder | None = None,
    ) -> str: ...

    @overload
    async def gen(
        self,
        kind: Any,
        constraint: Constraint | None = None,
        *,
        stops_at: str | Sequence[str] = (),
        stops_before: str | Sequence[str] = (),
        max_tokens: int | None = None,
        decoder: Decoder | None = None,
    ) -> Any: ...

    async def gen(
        self,
        kind: Any = None,
        constraint: Constraint | None = None,
        *,
        stops_at: str | Sequence[str] = (),
        stops_before: str | Sequence[str] = (),
        max_tokens: int | None = None,
        decoder: Decoder | None = None,
    ) -> Any:
        """Let the model write a value, which becomes a part of the prompt.

        kind: str, int, float, bool, list[int] and so on; a constraint in its place means text. stops_at, stops_before:
        texts that end it, as the constraints of these names. An answer without them that is not free ends where the
        model goes on with something that does not fit. Raises UserError for what cannot be joined, and for an answer
        that does not fit when its tokens are used up.
        """
        if isinstance(kind, Constraint):
            kind, constraint = str, kind if constraint is None else kind & constraint
        asked = _with_stops(constraint, stops_at, stops_before)
        self._read_text()
        return await self._fill(
            hole.for_value(kind or str, asked, max_tokens, self._pending), decoder
        )

    async def select(self, choices: Sequence[str], *, decoder: Decoder | None = None) -> str:
        """Let the model write one of these texts."""
        return await self.gen(one_of(choices), decoder=decoder)

    async def json(
        self,
        schema: Mapping[str, Any] | str,
        *,
        max_tokens: int | None = None,
        decoder: Decoder | None = None,
    ) -> Any:
        """Let the model write a JSON value that fits a schema; returns the value."""
        self._read_text()
        return await self._fill(hole.for_json(schema, max_tokens, self._pending), decoder)

    async def distribution(self, choices: Sequence[str]) -> Distribution:
        """How probable each of these texts is here; the prompt stays as it is."""
        texts = distribution.checked(choices)
        self._read_text()
        start, ids = self._in_context(texts)
        base, asking = self._ids[:start], self._asking
        if not base:
            raise UserError("a distribution needs a prompt", "add a text before")
        await self._wait()
        calls = [asking.score([*base, *own], start) for own in ids]
        first = (
            [await calls[0]] if start > self._num_read + 1 else []
        )  # the others find it computed
        found = first + await together(calls[len(first) :])
        self._num_read = max(self._num_read, start)
        return distribution.of(texts, ids, list(map(sum, found)))

    def fork(self) -> Prompt:
        """A second prompt that goes its own way from here; what is there already is not computed again."""
        if self._unread:
            self._read_messages()
        self._read_text()
        path = (*self._path, self._num_forks)
        self._num_forks += 1
        is_known = self._common is not None and self._common.length == len(self._ids)
        if not is_known and len(self._ids) > self._num_read + 1:
            self._common = Common(self._asking, self._ids)
        twin = object.__new__(Prompt)
        twin.__dict__.update(self.__dict__)
        twin._ids, twin._messages = list(self._ids), list(self._messages)
        twin._path, twin._num_holes, twin._num_forks = path, 0, 0
        twin._unread = []
        return twin

    @property
    def _tokenizer(self) -> Tokenizer:
        return self._asking.llm.tokenizer

    async def _fill(self, asked: hole.Hole, decoder: Decoder | None) -> Any:
        # A fork's path ends with the number of the fork, a hole's with -1 and its own: no two are the same.
        seed = derived_seed(self._seed, *self._path, -1, self._num_holes)
        self._num_holes += 1
        await self._wait()
        written = await (decoder or self._decoder).write(self._asking, self.token_ids, asked, seed)
        value = asked.text_of(written.text, written.stop)
        self._add(written, asked.lead + value)
        return asked.read(value)

    async def _wait(self) -> None:
        """For what forks have in common."""
        common, self._common = self._common, None
        if common is not None:
            await common.read()
            self._num_read = max(self._num_read, common.length)

    def _add(self, written: Written, text: str) -> None:
        """Take over what was written, as far as it is a part of the prompt."""
        before = len(self._ids)
        ids = list(written.ids)
        while ids and not text.startswith(self._tokenizer.decode(ids)):
            ids.pop()
        rest = text[len(self._tokenizer.decode(ids)) :]
        self._ids += ids
        self._num_read = before + max(0, len(ids) - 1)
        self._said += text
        self._pending, self._last = rest, ("", [])

    def _read_text(self) -> None:
        """Make tokens of what was added, but for spaces at its end."""
        if self._unread:
            self._read_messages()
        text = self._pending.rstrip(" ")
        if text:
            self._tokenizer.refuse_longer(text, self._asking.llm.context_length)
            ids = self._tokenizer.encode(text, add_special=False)
            self._append(ids)
            self._last, self._said = (text, ids), self._said + text
            self._pending = self._pending[len(text) :]

    def _read_spaces(self) -> None:
        if self._pending:
            self._append(self._tokenizer.encode(self._pending, add_special=False))
            self._said, self._pending, self._last = self._said + self._pending, "", ("", [])

    def _read_messages(self) -> None:
        """Make tokens of the turns that were added."""
        self._read_text_of_turn()
        old, new = self._messages, [*self._messages, *self._unread]
        if old:
            old = [*old, {"role": "assistant", "content": self._said}]
            new = [*old, *self._unread]
        self._append(conversation.continued(self._asking.llm, self._ids, old, new))
        self._messages, self._unread, self._said = new, [], ""
        self._last = ("", [])

    def _read_text_of_turn(self) -> None:
        """What still waits belongs to the turn before."""
        unread, self._unread = self._unread, []
        self._read_text()
        self._read_spaces()
        self._unread = unread

    def _append(self, ids: Sequence[int]) -> None:
        self._ids += ids
        self._asking.ledger.prompt_tokens += len(ids)

    def _in_context(self, texts: Sequence[str]) -> tuple[int, list[list[int]]]:
        """Where the tokens of these texts begin, and what they are, behind the prompt."""
        before, own = self._last
        joint = [
            self._tokenizer.encode(before + self._pending + text, add_special=False)
            for text in texts
        ]
        common = min([len(own), *(_agreement(own, one) for one in joint)])
        return len(self._ids) - len(own) + common, [one[common:] for one in joint]


def _with_stops(
    constraint: Constraint | None, at: str | Sequence[str], before: str | Sequence[str]
) -> Constraint | None:
    for texts, make in ((at, stops_at), (before, stops_before)):
        many = (texts,) if isinstance(texts, str) else tuple(texts)
        if many:
            constraint = make(*many) if constraint is None else constraint & make(*many)
    return constraint


def _agreement(one: Sequence[int], other: Sequence[int]) -> int:
    count = 0
    for own, theirs in zip(one, other, strict=False):
        if own != theirs:
            break
        count += 1
    return count
