"""The application put together: pages, API, static files, guards and error handlers. Opens nothing itself."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib.metadata import version as installed_version

from litestar import Litestar, Router
from litestar.config.compression import CompressionConfig
from litestar.datastructures import CacheControlHeader, State
from litestar.di import Provide
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin
from litestar.static_files import create_static_files_router
from litestar.types import ASGIApp

from farcall.storeport import Reader
from farcall_console.access import Access
from farcall_console.assets import STATIC_DIRECTORY, Assets
from farcall_console.border import Border
from farcall_console.configuration import LiveConfig
from farcall_console.pages import HANDLERS, build_shell, respond_page
from farcall_console.reads import Reads
from farcall_console.rendering import COMPRESSES_ITSELF, GZIP_FROM_BYTES, GZIP_LEVEL
from farcall_console.resources import build_router

YEAR_S = 31_536_000
MAX_BODY_BYTES = 16 * 1_024  # the only body is the sign-out form


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What the application needs from outside."""

    reader: Reader
    access: Access
    live_config: LiveConfig
    assets: Assets
    allowed_hosts: frozenset[str]


def build_application(parts: Parts) -> ASGIApp:
    reads = Reads(parts.reader)
    shell = build_shell(parts.assets, parts.live_config, parts.access)

    @asynccontextmanager
    async def closing(_app: Litestar) -> AsyncIterator[None]:
        try:
            yield
        finally:
            reads.close()

    app = Litestar(
        route_handlers=[*HANDLERS, build_router(), _build_static_router()],
        dependencies={
            "reads": _provide(reads),
            "live_config": _provide(parts.live_config),
            "shell": _provide(shell),
        },
        guards=[parts.access.guard],
        exception_handlers={Exception: respond_page},
        openapi_config=_build_openapi_config(),
        compression_config=CompressionConfig(
            backend="gzip",
            gzip_compress_level=GZIP_LEVEL,
            minimum_size=GZIP_FROM_BYTES,
            exclude_opt_key=COMPRESSES_ITSELF,
        ),
        state=State({"shell": shell}),
        lifespan=[closing],
        request_max_body_size=MAX_BODY_BYTES,
        debug=False,
        logging_config=None,
    )
    return Border(app, allowed_hosts=parts.allowed_hosts)


def _provide(value: object) -> Provide:
    return Provide(lambda: value, sync_to_thread=False)


def _build_static_router() -> Router:
    return create_static_files_router(
        path="/static",
        directories=[STATIC_DIRECTORY],
        cache_control=CacheControlHeader(public=True, max_age=YEAR_S, immutable=True),
    )


def _build_openapi_config() -> OpenAPIConfig:
    return OpenAPIConfig(
        title="farcall",
        version=installed_version("farcall"),
        description="Every call that the services make and receive, and the log lines around it. Read only.",
        # The whole path here, so that the router's own page for unknown paths covers nothing else of the API.
        path="/api/v1/openapi.json",
        render_plugins=[JsonRenderPlugin(path="/")],
        use_handler_docstrings=True,
    )
