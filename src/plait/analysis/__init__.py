"""Measuring: what the engine and its kernels cost on this machine, for people and for planners."""
