"""The viewer's server: on this machine alone, with a token in its address, until Ctrl-C."""

from __future__ import annotations

import secrets
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from hespotex.errors import RunError
from hespotex.viewer.sources import find_predictions

HOST: Final = "127.0.0.1"
_MISSING: Final = "the viewer needs starlette and uvicorn"


class Viewer:
    """A viewer of one path: `address` answers from `start` to `stop`.

    Args:
        path: a run folder, a folder of predictions, or one h5ad.
        slides: where images lie, as of `find_predictions`.
        port: to listen at; 0 takes a free one.
        say: hears of what the viewer does.
        height: of its frame in a notebook, in pixels of the screen.

    Raises:
        RunError: there is no prediction, the port is taken, or starlette and uvicorn are not installed.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        slides: str | Path | None = None,
        port: int = 0,
        say: Callable[[str], None] = lambda _text: None,
        height: int = 640,
    ) -> None:
        try:
            import uvicorn

            from hespotex.viewer.app import make_app
        except ImportError as error:
            raise RunError(f"{_MISSING}: {error}", remedy="pip install 'hespotex[view]'") from error
        from hespotex.viewer.library import Library

        source = find_predictions(Path(path), None if slides is None else Path(slides))
        token = secrets.token_urlsafe(18)
        self._socket = _bound(port)
        self.address = f"http://{HOST}:{self._socket.getsockname()[1]}/{token}/"
        self.library = Library(source, say)
        self._height = int(height)
        config = uvicorn.Config(
            make_app(self.library, token), log_level="error", access_log=False, lifespan="off",
            timeout_graceful_shutdown=1, server_header=False,
        )  # fmt: skip
        self._server: Any = uvicorn.Server(config)
        self._thread: threading.Thread | None = None

    def run(self) -> None:
        """Answer until Ctrl-C."""
        # The first slide is opened while the browser starts: readers of slides take a second to import.
        threading.Thread(target=self.library.warm, name="hespotex-warm", daemon=True).start()
        try:
            self._server.run([self._socket])
        except KeyboardInterrupt:
            pass
        finally:
            self._socket.close()

    def start(self) -> Viewer:
        """Answer from a thread, until `stop` or the end of the process."""
        self._thread = threading.Thread(target=self.run, name="hespotex-view", daemon=True)
        self._thread.start()
        while not self._server.started and self._thread.is_alive():
            time.sleep(0.01)
        return self

    def stop(self) -> None:
        """Stop answering."""
        self._server.should_exit = True
        if self._thread is not None:
            self._thread.join(timeout=5)

    def _repr_html_(self) -> str:
        return (
            f'<iframe src="{self.address}" title="hespotex view" style="width:100%;height:{self._height}px;border:0"></iframe>'
            f'<p><a href="{self.address}" target="_blank">open in a window of its own</a></p>'
        )

    def __repr__(self) -> str:
        return f"<Viewer {self.address}>"


def _bound(port: int) -> socket.socket:
    made = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        made.bind((HOST, port))
        made.listen(128)
    except OSError as error:
        made.close()
        raise RunError(
            expected=f"a free port at {HOST}",
            cause=f"port {port}: {error.strerror}",
            remedy="choose another --port, or none for a free one",
        ) from error
    return made
