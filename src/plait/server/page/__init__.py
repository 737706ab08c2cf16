"""The page: one folder of plain HTML, CSS and JavaScript, served as it lies here.

Nothing comes from outside, nothing is built, and the browser is told so: the policy allows the page's own
files and requests to its own server, no inline script or style, and no text that becomes HTML.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

from fastapi import FastAPI, Request, Response

FOLDER = Path(__file__).parent
KINDS = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
FILES = {
    "/" if file.name == "index.html" else f"/page/{file.name}": file
    for file in sorted(FOLDER.iterdir())
    if file.suffix in KINDS
}
"""Path on the server -> file. They hold no secret: a server with keys serves them to everyone."""
POLICY = "; ".join(
    [
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    ]
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}


def mount_page(app: FastAPI) -> None:
    """Serve the page at / and its files below /page/."""
    for path, file in FILES.items():
        app.add_route(path, _answer(file), methods=["GET"], include_in_schema=False)


def _answer(file: Path) -> Callable[[Request], Awaitable[Response]]:
    content = file.read_bytes()

    async def answer(_: Request) -> Response:
        return Response(content, media_type=KINDS[file.suffix], headers=HEADERS)

    return answer
