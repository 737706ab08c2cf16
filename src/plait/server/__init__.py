"""The HTTP server: OpenAI's API over a worker, and a page to talk to it."""
