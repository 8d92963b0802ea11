"""What is served over HTTP: metrics and health. Routes only; a thread of its own serves them."""

from __future__ import annotations

import socket
import threading
from typing import TYPE_CHECKING

import uvicorn
from prometheus_client.exposition import choose_encoder
from starlette.applications import Starlette
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from stream_detector.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable

    from prometheus_client import CollectorRegistry
    from starlette.requests import Request

OK, UNAVAILABLE = 200, 503


def build(
    registry: CollectorRegistry, alive: Callable[[], str | None], ready: Callable[[], list[str]]
) -> Starlette:
    """Return the application.

    Args:
        registry: What /metrics shows.
        alive: Returns why the service is stuck, or None.
        ready: Returns why the service does not do its job now; empty: it does.
    """

    def metrics(request: Request) -> Response:
        encode, content_type = choose_encoder(request.headers.get("accept", ""))
        return Response(encode(registry), headers={"content-type": content_type})

    def livez(_request: Request) -> Response:
        problem = alive()
        return PlainTextResponse(problem or "ok", UNAVAILABLE if problem else OK)

    def readyz(_request: Request) -> Response:
        reasons = ready()
        return JSONResponse({"ready": not reasons, "reasons": reasons}, UNAVAILABLE if reasons else OK)

    return Starlette(routes=[Route("/metrics", metrics), Route("/livez", livez), Route("/readyz", readyz)])


class WebServer:
    """Serves an application from a thread of its own.

    Args:
        app: The application.
        host: Numeric address to listen on.
        port: Port; 0 picks a free one.

    Raises:
        ConfigurationError: The port cannot be had.
    """

    def __init__(self, app: Starlette, host: str, port: int) -> None:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._socket = socket.socket(family, socket.SOCK_STREAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            self._socket.bind((host, port))
        except OSError as error:
            self._socket.close()
            raise ConfigurationError(
                f"http.listen: {host}:{port} cannot be used ({error.strerror}); set another port,"
                " or 0 for a free one",
                key="http.listen",
            ) from None
        self.port: int = self._socket.getsockname()[1]
        self.url = f"http://{f'[{host}]' if ':' in host else host}:{self.port}"
        config = uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            lifespan="off",
            limit_concurrency=64,
            timeout_keep_alive=10,
            h11_max_incomplete_event_size=16_384,
            server_header=False,
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(
            target=self._server.run, kwargs={"sockets": [self._socket]}, name="web", daemon=True
        )

    def start(self) -> None:
        """Begin to serve."""
        self._thread.start()

    def stop(self) -> None:
        """End serving; returns when the thread has ended or after a second."""
        self._server.should_exit = True
        if self._thread.is_alive():
            self._thread.join(timeout=1.0)
        self._socket.close()
