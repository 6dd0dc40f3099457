"""Who may ask the viewer: this machine's browser with the token of this start; pure ASGI, around the app.

The token keeps out other users of the machine and pages of other origins. The Host header keeps out pages whose
name was pointed at 127.0.0.1 (DNS rebinding).
"""

from __future__ import annotations

import secrets
from typing import Any, Final

from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

MOST_BYTES: Final = 4 * 2**20
_HOSTS: Final = frozenset({b"127.0.0.1", b"localhost", b"[::1]"})
_METHODS: Final = frozenset({"GET", "HEAD", "POST"})
_HEADERS: Final = {
    b"content-security-policy": b"default-src 'self'; img-src 'self' data: blob:; style-src 'self'; "
    b"script-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors *",
    b"referrer-policy": b"no-referrer",
    b"x-content-type-options": b"nosniff",
    b"cross-origin-resource-policy": b"same-origin",
}


class Gate:
    """The app behind `/TOKEN`.

    Args:
        app: sees paths without the token.
        token: of this start.
    """

    def __init__(self, app: ASGIApp, token: str) -> None:
        self._app, self._token = app, token.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or refuse without a word on what there is."""
        if scope["type"] == "lifespan":
            return await self._app(scope, receive, send)
        refused = (404, "nothing here") if scope["type"] != "http" else self._refusal(scope)
        if refused is not None:
            if scope["type"] == "http":
                await PlainTextResponse(refused[1], refused[0])(scope, receive, send)
            return None
        path = "/" + scope["path"].lstrip("/").partition("/")[2]
        inner = {**scope, "path": path, "raw_path": path.encode(), "root_path": ""}
        return await self._app(inner, _limited(receive), _with_headers(send))

    def _refusal(self, scope: Scope) -> tuple[int, str] | None:
        headers = dict(scope["headers"])
        host = headers.get(b"host", b"").lower()
        name = host[: host.rfind(b"]") + 1] if host.startswith(b"[") else host.split(b":")[0]
        if name not in _HOSTS:
            return 400, "wrong host"
        if scope["method"] not in _METHODS:
            return 405, "the viewer only reads"
        given = scope["path"].lstrip("/").partition("/")[0].encode("utf-8", "replace")
        if not secrets.compare_digest(given, self._token):
            return 404, "nothing here: open the address that `hespotex view` printed"
        try:
            length = int(headers.get(b"content-length", b"0"))
        except ValueError:
            return 400, "wrong length"
        return (413, "too much") if length > MOST_BYTES or length < 0 else None


class TooLargeError(Exception):
    """More bytes came than a request may have."""


def _limited(receive: Receive) -> Receive:
    seen = 0

    async def limited() -> Message:
        nonlocal seen
        message = await receive()
        seen += len(message.get("body", b""))
        if seen > MOST_BYTES:
            raise TooLargeError
        return message

    return limited


def _with_headers(send: Send) -> Send:
    async def with_headers(message: Any) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message.get("headers", ()), *_HEADERS.items()]
        await send(message)

    return with_headers
