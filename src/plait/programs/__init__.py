"""Programs on top of the engine: what can be said in requests."""
