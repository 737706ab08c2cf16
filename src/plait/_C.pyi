"""Native kernels of Plait."""

from collections.abc import Sequence
from typing import Annotated

import numpy
from numpy.typing import NDArray

def runnable_isas() -> list[str]: ...
def default_num_threads() -> int: ...

class Pool:
    def __init__(self, num_threads: int) -> None: ...
    @property
    def size(self) -> int: ...

class PackedMatrix:
    def __init__(
        self,
        format: str,
        rows: int,
        cols: int,
        raw: Annotated[NDArray, dict(device="cpu", writable=False)],
        pool: Pool,
    ) -> None: ...
    def dequantize_row(
        self, row: int
    ) -> Annotated[NDArray[numpy.float32], dict(shape=(None,), order="C")]: ...
    @property
    def format(self) -> str: ...
    @property
    def rows(self) -> int: ...
    @property
    def cols(self) -> int: ...
    @property
    def bytes(self) -> int: ...

def linear(
    packed: PackedMatrix,
    x: Annotated[NDArray, dict(device="cpu", writable=False)],
    pool: Pool,
    *,
    activations: str = "int8",
    isa: str = "auto",
    bias: Annotated[NDArray, dict(device="cpu", writable=False)] | None = None,
    residual: Annotated[NDArray, dict(device="cpu", writable=False)] | None = None,
    panels: tuple[int, int] | None = None,
) -> Annotated[NDArray[numpy.float32], dict(shape=(None, None), order="C")]: ...
def quantize_rows(
    x: Annotated[NDArray, dict(device="cpu", writable=False)], isa: str = "auto"
) -> tuple[
    Annotated[NDArray[numpy.int8], dict(shape=(None, None), order="C")],
    Annotated[NDArray[numpy.float32], dict(shape=(None, None), order="C")],
    Annotated[NDArray[numpy.int16], dict(shape=(None, None), order="C")],
]: ...

class Plan:
    @property
    def num_ops(self) -> int: ...
    def embed(
        self, arg0: PackedMatrix, arg1: tuple[int, int, int, bool], arg2: float, /
    ) -> None: ...
    def linear(
        self,
        arg0: Sequence[tuple[int, int, int, bool]],
        arg1: Sequence[PackedMatrix],
        arg2: Sequence[Sequence[float]],
        arg3: tuple[int, int, int, bool],
        arg4: bool,
        arg5: str,
        arg6: Sequence[float],
        arg7: float,
        arg8: str,
        /,
    ) -> None: ...
    def rmsnorm(
        self,
        arg0: tuple[int, int, int, bool],
        arg1: tuple[int, int, int, bool],
        arg2: Sequence[float],
        arg3: float,
        arg4: int,
        arg5: tuple[int, int, int, bool] | None,
        /,
    ) -> None: ...
    def layernorm(
        self,
        arg0: tuple[int, int, int, bool],
        arg1: tuple[int, int, int, bool],
        arg2: Sequence[float],
        arg3: Sequence[float],
        arg4: float,
        /,
    ) -> None: ...
    def rope_table(self, arg: Sequence[float], /) -> int: ...
    def rope(
        self, arg0: tuple[int, int, int, bool], arg1: int, arg2: int, arg3: bool, /
    ) -> None: ...
    def attention(
        self,
        arg0: tuple[int, int, int, bool],
        arg1: tuple[int, int, int, bool],
        arg2: tuple[int, int, int, bool],
        arg3: tuple[int, int, int, bool],
        arg4: int,
        arg5: int,
        arg6: float,
        arg7: int,
        /,
    ) -> None: ...
    def gated(
        self,
        arg0: tuple[int, int, int, bool],
        arg1: tuple[int, int, int, bool],
        arg2: tuple[int, int, int, bool],
        arg3: str,
        /,
    ) -> None: ...
    def add(
        self,
        arg0: tuple[int, int, int, bool],
        arg1: tuple[int, int, int, bool],
        arg2: tuple[int, int, int, bool],
        arg3: float,
        /,
    ) -> None: ...
    def wanted(
        self, arg0: tuple[int, int, int, bool], arg1: tuple[int, int, int, bool], /
    ) -> None: ...
    def run(
        self,
        tokens: Annotated[
            NDArray[numpy.int32], dict(shape=(None,), order="C", device="cpu", writable=False)
        ],
        positions: Annotated[
            NDArray[numpy.int32], dict(shape=(None,), order="C", device="cpu", writable=False)
        ],
        windows: Annotated[
            NDArray[numpy.int32], dict(shape=(None, None), order="C", device="cpu", writable=False)
        ],
        pages: Annotated[
            NDArray[numpy.int32], dict(shape=(None,), order="C", device="cpu", writable=False)
        ],
        masks: Annotated[
            NDArray[numpy.uint8], dict(shape=(None,), order="C", device="cpu", writable=False)
        ],
        wanted: Annotated[
            NDArray[numpy.int32], dict(shape=(None,), order="C", device="cpu", writable=False)
        ],
        kv: Annotated[NDArray, dict(shape=(None, None, None, None, None), order="C", device="cpu")],
        out: Annotated[NDArray[numpy.float32], dict(shape=(None, None), order="C", device="cpu")],
        embeddings: Annotated[
            NDArray[numpy.float32],
            dict(shape=(None, None), order="C", device="cpu", writable=False),
        ]
        | None,
        embedding_rows: Annotated[
            NDArray[numpy.int32], dict(shape=(None,), order="C", device="cpu", writable=False)
        ]
        | None,
        hidden: Annotated[
            NDArray[numpy.float32],
            dict(shape=(None, None), order="C", device="cpu", writable=False),
        ]
        | None,
        first: int,
        last: int,
        entry: tuple[int, int, int, bool],
        exit: tuple[int, int, int, bool] | None,
    ) -> None: ...

def make_plan(
    widths: Sequence[int],
    result: int,
    kv: tuple[int, int, int, int],
    kv_type: str,
    int8: bool,
    isa: str,
    pool: Pool,
) -> Plan: ...
def uniform(seed: int, position: int) -> float: ...
def exp_nonpositive(x: float) -> float: ...
def sample(
    logits: Annotated[
        NDArray[numpy.float32], dict(shape=(None, None), order="C", device="cpu", writable=False)
    ],
    positions: Annotated[
        NDArray[numpy.uint64], dict(shape=(None,), order="C", device="cpu", writable=False)
    ],
    tokens: Annotated[NDArray[numpy.int32], dict(shape=(None,), order="C", device="cpu")],
    confidence: Annotated[NDArray[numpy.float64], dict(shape=(None,), order="C", device="cpu")],
    *,
    seed: int,
    temperature: float,
    top_k: int,
    top_p: float,
    min_p: float,
    typical_p: float,
    repetition_penalty: float,
    presence_penalty: float,
    frequency_penalty: float,
    history: Annotated[
        NDArray[numpy.int32], dict(shape=(None,), order="C", device="cpu", writable=False)
    ],
    num_prompt: int,
    bias_ids: Annotated[
        NDArray[numpy.int32], dict(shape=(None,), order="C", device="cpu", writable=False)
    ],
    bias: Annotated[
        NDArray[numpy.float64], dict(shape=(None,), order="C", device="cpu", writable=False)
    ],
    forbidden: Annotated[
        NDArray[numpy.int32], dict(shape=(None,), order="C", device="cpu", writable=False)
    ],
    held: Annotated[
        NDArray[numpy.int32], dict(shape=(None,), order="C", device="cpu", writable=False)
    ],
    num_held: int,
) -> None: ...
def logprobs(
    logits: Annotated[
        NDArray[numpy.float32], dict(shape=(None, None), order="C", device="cpu", writable=False)
    ],
    tokens: Annotated[
        NDArray[numpy.int32], dict(shape=(None,), order="C", device="cpu", writable=False)
    ],
    logprobs: Annotated[NDArray[numpy.float64], dict(shape=(None,), order="C", device="cpu")],
    ranks: Annotated[NDArray[numpy.int32], dict(shape=(None,), order="C", device="cpu")],
    top: Annotated[NDArray[numpy.int32], dict(shape=(None, None), order="C", device="cpu")],
    top_logprobs: Annotated[
        NDArray[numpy.float64], dict(shape=(None, None), order="C", device="cpu")
    ],
) -> None: ...
