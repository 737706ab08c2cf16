"""Texts and id sequences that tokenizers get wrong, the same ones every time.

The oracle fixture holds what an independent implementation makes of them, so nothing here may change
without making the fixture again (scripts/make_tokenizer_fixture.py). Only `Random.random` is used, whose
sequence Python guarantees, and no table that depends on the version of Unicode.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from typing import TypeVar

NUM_STRINGS = 12_000
NUM_SEQUENCES = 2_000

T = TypeVar("T")


def listed(text: str) -> list[str]:
    return text.split(" ")


WORDS = listed(
    "the of and to in is you that it he was for on are as with his they at be this have from or one "
    "had by word but not what all were we when your can said there use an each which she do how their "
    "if will up other about out many then them these so some her would make like him into time has "
    "look two more write go see number no way could people my than first water been call who oil its "
    "now find long down day did get come made may part Tokenizer naïve café Straße résumé coöperate "
    "jalapeño fiancée Übermensch HTTPServer snake_case camelCase don't I'll we've they're It's I'D "
    "O'Neill rock'n'roll x86_64 3.14159 1,000,000 0xDEADBEEF user@example.com a.b.c C++ F# --help"
)
EMOJI = listed("😀 🎉 👍🏽 👩‍👩‍👧‍👦 🏳️‍🌈 🇩🇪 🇯🇵🇺🇸 ❤️ ☎️ 1️⃣ 🧑🏿‍🚀 🤷‍♀️ ✨ 🫠 🐍 ⌛ ™️ © 🅰️ 🀄 👨🏻‍❤️‍💋‍👨🏾")
SCRIPTS = {
    "han": (0x4E00, 0x9FA5), "hiragana": (0x3041, 0x3096), "katakana": (0x30A1, 0x30FA),
    "hangul": (0xAC00, 0xD7A3), "cyrillic": (0x0410, 0x044F), "greek": (0x03B1, 0x03C9),
    "arabic": (0x0621, 0x064A), "hebrew": (0x05D0, 0x05EA), "devanagari": (0x0904, 0x0939),
    "devanagari signs": (0x093E, 0x094D), "thai": (0x0E01, 0x0E3A), "combining": (0x0300, 0x036F),
    "punctuation": (0x2010, 0x2027), "arrows": (0x2190, 0x21FF), "mathematics": (0x2200, 0x22FF),
    "boxes": (0x2500, 0x257F), "full width": (0xFF01, 0xFF5E), "digits": (0x0660, 0x0669),
    "Roman numbers": (0x2160, 0x2188), "superscripts": (0x2070, 0x2071), "han b": (0x20000, 0x2A6D6),
    "mathematical letters": (0x1D400, 0x1D454), "cuneiform": (0x12000, 0x12399),
    "private": (0xE000, 0xF8FF), "ascii": (0x20, 0x7E), "latin-1": (0xA1, 0xFF),
}  # fmt: skip
BLANKS = (
    " ",
    "  ",
    "\t",
    "\n",
    "\r\n",
    "\n\n",
    "\r",
    "\u00a0",
    "\u3000",
    "\u2009",
    "\u2028",
    "\x0b",
)
SPECIALS = listed(
    "<|im_start|> <|im_end|> <|endoftext|> <|IM_END|> <|im_end <im_end|> <|im_|im_end|>end|> "
    "<|fim_prefix|> <|file_sep|> <repo_name> <filename> <jupyter_code> <tool_call> </tool_call> "
    "<bos> <eos> <pad> <unk> <start_of_turn> <end_of_turn> <unused7> <unused4000> [multimodal] "
    "<0x0A> <0xFF> [PAD151665] <|eot_id|> <|begin_of_text|> [INST] <table> </td> <h1> <b> <| |> < > "
    "user assistant ▁ ▁▁ Ġ Ċ <mask> <start_of_image>"
)
CODE = (
    "def f(x):\n    return x ** 2\n", "for (int i = 0; i < n; ++i) {\n\t\tsum += a[i];\n\t}\n",
    "#include <stdio.h>\r\n", "SELECT * FROM t WHERE a='b' AND c>=10;", '{"key": [1, 2.5e-3, null]}',
    "<div class=\"a\">&nbsp;</div>", "// ======================\n", "/* ------ */", "=====", "!!!???...",
    "$x = \\frac{1}{2}$", "https://example.com/a?b=c&d=%20#e", "    if not x:\n        pass\n\n\n",
)  # fmt: skip


def pick(rng: Random, choices: Sequence[T]) -> T:
    return choices[int(rng.random() * len(choices))]


def between(rng: Random, low: int, high: int) -> int:
    """A whole number from low to high, both included."""
    return low + int(rng.random() * (high - low + 1))


def words(rng: Random) -> str:
    return " ".join(pick(rng, WORDS) for _ in range(between(rng, 1, 12)))


def emoji(rng: Random) -> str:
    return "".join(
        pick(rng, EMOJI) + pick(rng, ("", "", " ", "a")) for _ in range(between(rng, 1, 6))
    )


def script(rng: Random) -> str:
    low, high = SCRIPTS[pick(rng, sorted(SCRIPTS))]
    return "".join(chr(between(rng, low, high)) for _ in range(between(rng, 1, 12)))


def mixture(rng: Random) -> str:
    makers = (words, emoji, script, script, blanks, digits)
    return "".join(pick(rng, makers)(rng) for _ in range(between(rng, 2, 5)))


def blanks(rng: Random) -> str:
    runs = (pick(rng, BLANKS) * between(rng, 1, 9) for _ in range(between(rng, 1, 3)))
    return pick(rng, ("", "a", ".")).join(runs)


def spaced(rng: Random) -> str:
    return "".join(pick(rng, WORDS) + " " * between(rng, 0, 40) for _ in range(between(rng, 1, 5)))


def digits(rng: Random) -> str:
    return "".join(pick(rng, "0123456789,. ") for _ in range(between(rng, 1, 15)))


def code(rng: Random) -> str:
    return "".join(pick(rng, CODE) for _ in range(between(rng, 1, 3)))


def specials(rng: Random) -> str:
    return "".join(
        pick(rng, SPECIALS) + pick(rng, ("", "", " ", "\n", pick(rng, WORDS)))
        for _ in range(between(rng, 1, 6))
    )


def repeats(rng: Random) -> str:
    unit = pick(rng, (" ", "-", "=", "a", "ab", "\n", "\t", "▁", "哈", "…", "!", "0", "é", "👍"))
    return pick(rng, ("", "x", " ")) + unit * between(rng, 2, 70) + pick(rng, ("", "x", " ", "\n"))


def controls(rng: Random) -> str:
    return "".join(chr(between(rng, 0, 0x9F)) for _ in range(between(rng, 1, 20)))


def damaged(rng: Random) -> str:
    """Bytes that are not UTF-8, as a caller decodes them."""
    good = mixture(rng).encode()
    bad = bytes(between(rng, 0x80, 0xFF) for _ in range(between(rng, 1, 4)))
    place = between(rng, 0, len(good))
    return (good[:place] + bad + good[place:]).decode("utf-8", "replace")


MAKERS: tuple[Callable[[Random], str], ...] = (
    words, emoji, script, mixture, blanks, spaced, digits, code, specials, repeats, controls, damaged,
)  # fmt: skip


def strings(count: int = NUM_STRINGS) -> list[str]:
    """The first `count` strings; every kind in turn."""
    rng = Random(20_260_801)
    return ["", *(MAKERS[i % len(MAKERS)](rng) for i in range(count - 1))]


def sequences(vocab_size: int, count: int = NUM_SEQUENCES) -> list[list[int]]:
    """Random ids: most of what they spell is no valid UTF-8 where bytes have tokens of their own."""
    rng = Random(vocab_size)
    tops = (vocab_size - 1, vocab_size - 1, min(vocab_size, 600) - 1)
    return [
        [between(rng, 0, pick(rng, tops)) for _ in range(between(rng, 1, 16))] for _ in range(count)
    ]
