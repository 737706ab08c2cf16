"""Plait filling a canvas, step by step, in a fixed number of steps per block."""

from __future__ import annotations

import time
from typing import Any

from protocol import canvas_prompt, serve

from plait import __version__
from plait.core.config import EngineConfig
from plait.core.params import SamplingParams
from plait.engine.build import build
from plait.kernels.plan import runnable_isas


class Canvas:
    def __init__(self, setting: dict[str, Any]) -> None:
        self.setting = setting
        length = setting["prompt"] + setting["answer"]
        built = build(
            EngineConfig(
                setting[setting["weights"]],
                threads=setting["threads"],
                activations=setting["activations"],
                max_model_len=length,
                max_num_batched_tokens=length,
                decoder="fixed_steps",
                options={
                    "block_size": str(setting["block"]),
                    "reuse": setting["reuse"],
                    "steps": str(setting["steps"]),
                    "early_stop": "false",
                },
            )
        )
        self.engine = built.engine
        self.about = {"version": __version__, "isa": runnable_isas()[-1], "words": built.words}
        self.found: dict[str, Any] = {}

    def prepare(self) -> None:
        self._answer(canvas_prompt(self.setting, 1))

    def round(self, seed: int) -> float:
        prompt = canvas_prompt(self.setting, seed)
        began = time.perf_counter()
        self._answer(prompt)
        return time.perf_counter() - began

    def _answer(self, prompt: list[int]) -> None:
        params = SamplingParams(temperature=0.0, max_tokens=self.setting["answer"], ignore_eos=True)
        self.engine.add(prompt, params)
        tokens: list[int] = []
        fed: list[int] = []
        while self.engine.has_work:
            before = self.engine.metrics.num_positions
            for event in self.engine.step():
                if event.error:
                    raise RuntimeError(event.error)
                tokens += event.token_ids
            if self.engine.metrics.num_positions > before:
                fed.append(self.engine.metrics.num_positions - before)
        self.found = {"tokens": list(map(int, tokens)), "fed": fed}


serve(Canvas)
