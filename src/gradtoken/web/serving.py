"""The page as a server: what it lets in, what it says, and what it leaves behind, which is nothing."""

import os
import signal
import socket
import tempfile
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress
from importlib.resources import files
from importlib.util import find_spec
from typing import Any
from urllib.parse import unquote

from gradtoken.errors import GradTokenError, MissingExtra
from gradtoken.web.imports import no_stubs, unswept, without
from gradtoken.web.settings import Settings
from gradtoken.web.visits import Desk, Upload

QUIET = {"GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_DISABLE_TELEMETRY": "1", "DO_NOT_TRACK": "1"}
CLOSED = ("/gradio_api/upload", "/gradio_api/deep_link", "/gradio_api/file", "/gradio_api/stream", "/gradio_api/proxy")
HEADERS = {
    "content-security-policy": "default-src 'self'; img-src 'self' data: blob:; style-src 'self' 'unsafe-inline'; "
    "script-src 'self' 'unsafe-inline' 'unsafe-eval'; font-src 'self' data:; frame-ancestors 'self'",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}
QUIETER = {"body_text_color_subdued": "#52525b", "body_text_color_subdued_dark": "#b4b4bd"}
QUIETER |= {"color_accent": "*primary_600"}
COLOURS = QUIETER | {
    f"{name}{side}": "*body_text_color_subdued"
    for name in ("block_info_text_color", "input_placeholder_color", "block_title_text_color", "block_label_text_color")
    for side in ("", "_dark")
}  # the theme's own greys are too pale to be read by everybody
FONTS = ("system-ui", "sans-serif")


def serve(settings: Settings, ready: Callable[[str], Any] = print) -> None:
    """Serve the page until it is interrupted. ready: is told the address. Raises what is wrong with the first model."""
    if find_spec("gradio") is None:
        raise MissingExtra.of("gradio", "app")
    import uvicorn

    with tempfile.TemporaryDirectory(prefix="gradtoken-") as folder, listening(settings) as taken:
        desk = Desk(settings)
        app = build(desk, folder)
        # pages that are open hold connections, which are cut at the end: no error
        quiet: dict[str, Any] = {"log_level": "critical", "timeout_graceful_shutdown": 1}
        server = uvicorn.Server(uvicorn.Config(app, server_header=False, **quiet))
        kitchen = Warming(desk, server)
        kitchen.start()
        host, port = taken.getsockname()[:2]
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # which lets the folder be removed
        ready(f"http://{f'[{host}]' if ':' in host else host}:{port}")
        with suppress(KeyboardInterrupt):
            server.run(sockets=[taken])
    if kitchen.failure is not None:
        raise kitchen.failure


class Warming(threading.Thread):
    """Imports PyTorch and loads the first model while the browser fetches the page; ends the server where it cannot."""

    def __init__(self, desk: Desk, server: Any) -> None:
        super().__init__(daemon=True)
        self.desk, self.server = desk, server
        self.failure: GradTokenError | None = None

    def run(self) -> None:
        try:
            with unswept():
                from gradtoken.web import actions  # noqa: F401  and all that it imports
            self.desk.shelf.get(self.desk.settings.models[0])
        except GradTokenError as error:
            self.failure = error
            self.server.should_exit = True


def listening(settings: Settings) -> socket.socket:
    """The socket, so that a port that is taken is said before anything is loaded."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    taken = socket.socket(family)
    taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        taken.bind((settings.host, settings.port))
        taken.listen(128)
    except OSError as error:
        taken.close()
        where = f"{settings.host} port {settings.port}"
        raise GradTokenError(
            f"cannot listen on {where}: {error.strerror}; give another --port, or 0 for any"
        ) from error
    return taken


def build(desk: Desk, folder: str) -> Any:
    """The application. folder: for whatever gradio writes; pictures are kept in memory only."""
    os.environ.update(QUIET | {"GRADIO_TEMP_DIR": folder})
    with unswept(), no_stubs(), without("pyarrow", "IPython"):
        return Guard(application(desk), desk.settings)


def application(desk: Desk) -> Any:
    """The page within its server."""
    import fastapi
    import gradio as gr

    from gradtoken.web.page import page

    settings = desk.settings
    app = fastapi.FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    app.add_api_route("/upload", uploading(desk), methods=["POST"])
    gr.mount_gradio_app(
        app,
        page(desk).queue(max_size=settings.visitors, default_concurrency_limit=4),
        "/",
        server_name=settings.host,
        server_port=settings.port,
        show_error=False,
        ssr_mode=False,
        run_history=False,
        footer_links=[],
        max_file_size=1,
        theme=gr.themes.Default(primary_hue="blue", font=list(FONTS), font_mono=["monospace"]).set(**COLOURS),
        css=text_of("page.css"),
        head=f"<script>{text_of('page.js')}</script>",
    )
    return app


def text_of(name: str) -> str:
    """A file that lies beside this one."""
    return files("gradtoken.web").joinpath(name).read_text(encoding="utf-8")


def uploading(desk: Desk) -> Callable[..., Awaitable[Any]]:
    """Takes a picture into memory, and answers with the key under which it waits."""
    from starlette.requests import Request
    from starlette.responses import JSONResponse

    async def upload(request: Request) -> JSONResponse:
        content = bytearray()
        async for part in request.stream():
            content += part
            if len(content) > desk.settings.bytes:
                most = f"the file is larger than the {desk.settings.bytes // 2**20} MB that this page takes"
                return JSONResponse({"message": most}, 413)
        name = unquote(request.headers.get("x-gradtoken-name", ""))[-200:]
        return JSONResponse({"key": desk.uploads.add(Upload(bytes(content), name))})

    upload.__annotations__ = {"request": Request}  # which FastAPI reads
    return upload


class Guard:
    """Refuses requests under another name than this machine's, and gradio's own ways to files; adds headers."""

    def __init__(self, app: Any, settings: Settings) -> None:
        self.app, self.settings = app, settings

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        refusal = self.refusal(scope["path"], dict(scope["headers"]))
        if refusal:
            from starlette.responses import PlainTextResponse

            await PlainTextResponse(refusal, 403)(scope, receive, send)
            return

        async def with_headers(message: Any) -> None:
            if message["type"] == "http.response.start":
                own = [(name.encode(), value.encode()) for name, value in HEADERS.items()]
                names = {name for name, _ in own}
                message["headers"] = [*(h for h in message["headers"] if h[0].lower() not in names), *own]
            await send(message)

        if self.settings.private:  # nothing is gained by packing what stays on this machine
            scope = scope | {"headers": [h for h in scope["headers"] if h[0] != b"accept-encoding"]}
        await self.app(scope, receive, with_headers)

    def refusal(self, path: str, headers: dict[bytes, bytes]) -> str:
        """Why a request is not answered, or ""."""
        if self.settings.private and not local(headers.get(b"host", b"").decode("latin-1")):
            return "this page answers to localhost only"
        if path.startswith(CLOSED):
            return "this page takes no files this way"
        if path == "/upload" and b"x-gradtoken-name" not in headers:
            return "pictures come from the page itself"
        return ""


def local(host: str) -> bool:
    """Whether a Host header names this machine, with or without a port."""
    from gradtoken.web.settings import is_loopback

    name = host.rsplit(":", 1)[0] if not host.endswith("]") and ":" in host else host
    return is_loopback(name.strip("[]").lower())
