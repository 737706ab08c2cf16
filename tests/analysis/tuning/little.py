"""A server without a model, as a process: `python -m tests.analysis.tuning.little SECONDS_PER_TOKEN`."""

from __future__ import annotations

import asyncio
import json
import sys

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"


async def answer(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, seconds: float
) -> None:
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
    body = json.loads(await reader.readexactly(length) or b"{}")
    writer.write(HEAD)
    for _ in range(body.get("max_tokens", 0)):
        await asyncio.sleep(seconds)
        writer.write(b'data: {"choices": [{"text": "a"}]}\n\n')
    usage = {"prompt_tokens": 7, "completion_tokens": body.get("max_tokens", 0)}
    writer.write(b"data: " + json.dumps({"choices": [], "usage": usage}).encode() + b"\n\n")
    writer.write(b"data: [DONE]\n\n")
    await writer.drain()
    writer.close()


async def serve(seconds: float) -> None:
    server = await asyncio.start_server(lambda r, w: answer(r, w, seconds), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    print(f"listening on http://127.0.0.1:{port}", file=sys.stderr, flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(float(sys.argv[1])))
