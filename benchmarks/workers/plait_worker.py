"""Plait, step by step, as its scheduler runs it by default."""

from __future__ import annotations

from typing import Any

import numpy as np
from protocol import random_tokens, serve

from plait import __version__
from plait.analysis import drive
from plait.core.config import EngineConfig
from plait.engine.build import build
from plait.kernels.plan import runnable_isas


class Plait:
    def __init__(self, setting: dict[str, Any]) -> None:
        self.work = setting["work"]
        config = EngineConfig(
            setting["model"],
            threads=setting["threads"],
            max_model_len=self.work["capacity"],
            activations=setting["activations"],
            proposer="none",
            isa=setting["isa"],
            kv=setting["kv"],
            # Contexts fill before the clock starts: nobody who decodes meanwhile needs short steps.
            max_step_stretch=1e6,
        )
        built = build(config)
        self.engine = built.engine
        self.about = {
            "version": __version__,
            "isa": runnable_isas()[-1] if config.isa == "auto" else config.isa,
            "words": built.words,
            "enable_prefix_caching": config.enable_prefix_caching,
        }

    def prepare(self) -> None:
        if self.work["kind"] == "prefill":
            drive.prefill(self.engine, self._prompt(64, 1))
        else:
            copies = self.work["batch"] if self.work["shared"] else 1
            prompts = [
                self._prompt(self.work["fill"], i) for i in range(self.work["batch"] // copies)
            ]
            drive.fill(self.engine, prompts, copies)
            drive.decode(self.engine, self.work["batch"], 1)

    def round(self, seed: int) -> float:
        if self.work["kind"] == "prefill":
            seconds = drive.prefill(self.engine, self._prompt(self.work["context"], seed))
            # The others forget a prompt before the next one; memory is to be compared as well.
            self.engine.scheduler.cache.drop()
            return seconds
        return sum(drive.decode(self.engine, self.work["batch"], self.work["steps"]))

    def _prompt(self, count: int, seed: int) -> np.ndarray:
        return np.array(random_tokens(count, seed), np.int32)


serve(Plait)
