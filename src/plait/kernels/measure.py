"""Measuring loops of the native module; csrc/include/plait/measure.h has the contract."""

from __future__ import annotations

from plait._C import time_linear, time_multiply, time_read

__all__ = ["time_linear", "time_multiply", "time_read"]
