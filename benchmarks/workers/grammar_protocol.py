"""How structured_peers.py talks to a worker: JSON lines, first what is asked for, then one word for each run.

Answers go to the standard output that the worker was started with; whatever else prints goes to its errors.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any


def serve(kind: Any) -> None:
    """kind(asked) has `about` and run(is_held), which returns seconds per token."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def say(told: Any) -> None:
        print(json.dumps(told), file=answers, flush=True)

    engine = kind(json.loads(sys.stdin.readline()))
    say(engine.about)
    for line in sys.stdin:
        say(engine.run(line.strip() == "held"))
