"""The pages' shell, sign-in and sign-out. A page is an empty frame: the script in it asks the API like anybody else.

No data from the store passes through a template.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import jinja2
from litestar import MediaType, Request, Response, get, post
from litestar.datastructures import Cookie
from litestar.di import NamedDependency
from litestar.exceptions import NotFoundException
from litestar.params import FromPath, FromQuery, URLEncodedBody
from litestar.response import Redirect

from farcall.logintoken import LoginTokenError
from farcall_console.access import API_PREFIX, Access
from farcall_console.assets import Assets
from farcall_console.configuration import LiveConfig
from farcall_console.problems import build_problem, describe, note, respond
from farcall_console.session import SESSION_S

HOME = "/traces"
TITLES = {"traces": "Traces", "trace": "Trace", "logs": "Logs", "status": "Status"}
CROSS_SITE = "cross-site"  # Sec-Fetch-Site

_PLAIN_PATH = re.compile(r"(/[A-Za-z0-9_-]+)+")

AnyRequest = Request[Any, Any, Any]
Page = Response[str]


class PackagedTemplates(jinja2.BaseLoader):
    """Templates of farcall_templates/console, wherever the package is installed (a zip as well)."""

    def get_source(self, environment: jinja2.Environment, template: str) -> tuple[str, None, None]:
        resource = files("farcall_templates") / "console" / template
        try:
            return resource.read_text(encoding="utf-8"), None, None
        except FileNotFoundError as e:
            raise jinja2.TemplateNotFound(template) from e


@dataclass(frozen=True, slots=True, kw_only=True)
class Shell:
    """Renders pages; knows the bundle and the instance's name."""

    environment: jinja2.Environment
    assets: Assets
    live_config: LiveConfig
    access: Access

    def render(self, template: str, values: Mapping[str, object], *, status: int = 200) -> Page:
        text = self.environment.get_template(template).render(
            assets=self.assets, config=self.live_config.read(), **values
        )
        return Response(text, media_type=MediaType.HTML, status_code=status)

    def render_page(self, page: str, request: AnyRequest) -> Page:
        session = self.access.session_of(request)
        csrf = self.access.sessions.csrf_token(session) if session is not None else ""
        return self.render("page.html.j2", {"page": page, "title": TITLES[page], "csrf": csrf})


def build_shell(assets: Assets, live_config: LiveConfig, access: Access) -> Shell:
    environment = jinja2.Environment(
        loader=PackagedTemplates(), autoescape=True, undefined=jinja2.StrictUndefined
    )
    return Shell(environment=environment, assets=assets, live_config=live_config, access=access)


FromShell = NamedDependency[Shell]


@get("/healthz", media_type=MediaType.TEXT, include_in_schema=False)
async def healthz() -> str:
    return "ok\n"


@get("/", include_in_schema=False)
async def home() -> Redirect:
    return Redirect(HOME, status_code=303)


@get("/traces", include_in_schema=False)
async def traces_page(shell: FromShell, request: AnyRequest) -> Page:
    return shell.render_page("traces", request)


@get("/traces/{trace_id:str}", include_in_schema=False)
async def trace_page(shell: FromShell, request: AnyRequest, trace_id: FromPath[str]) -> Page:
    return shell.render_page("trace", request)


@get("/logs", include_in_schema=False)
async def logs_page(shell: FromShell, request: AnyRequest) -> Page:
    return shell.render_page("logs", request)


@get("/status", include_in_schema=False)
async def status_page(shell: FromShell, request: AnyRequest) -> Page:
    return shell.render_page("status", request)


@get("/login", include_in_schema=False)
async def log_in(shell: FromShell, request: AnyRequest, token: FromQuery[str] = "") -> Page:
    """Spends a one-time link. The page that answers leads on by itself: a redirect from another site's page would
    arrive without the SameSite=Strict cookie that was just set."""
    if not token:
        return shell.render("login.html.j2", {"fault": ""})
    try:
        cookie = shell.access.log_in(token)
    except LoginTokenError as e:
        return shell.render("login.html.j2", {"fault": str(e)}, status=403)
    answer = shell.render("continue.html.j2", {"target": HOME, "title": "Signed in"})
    answer.cookies = [_cookie(shell.access, cookie, max_age_s=SESSION_S)]
    return answer


@post("/logout", include_in_schema=False, status_code=303)
async def log_out(
    shell: FromShell,
    request: AnyRequest,
    data: URLEncodedBody[dict[str, str]],
) -> Redirect:
    shell.access.check_csrf(request, data.get("csrf", ""))
    session = shell.access.session_of(request)
    if session is not None:
        shell.access.log_out(session)
    answer = Redirect("/login", status_code=303)
    answer.cookies = [_cookie(shell.access, "", max_age_s=0)]
    return answer


def respond_page(request: AnyRequest, error: Exception) -> Response[Any]:
    """The exception handler of everything that is not a path of the API."""
    if request.scope["path"].startswith(API_PREFIX):  # no such path there
        return respond(request, error)
    shell: Shell = request.app.state.shell
    problem = describe(error)
    note(request, error, problem)
    if problem.status == 401:
        return _respond_unknown_visitor(shell, request)
    if isinstance(error, NotFoundException):
        problem = build_problem(404, "There is no such page.")
    return shell.render("problem.html.j2", {"problem": problem}, status=problem.status)


def _respond_unknown_visitor(shell: Shell, request: AnyRequest) -> Page:
    """Whoever follows a shared link from another site sends no Strict cookie, signed in or not.

    A page of ours that loads the same address again tells the two apart: the second request comes from us.
    """
    if request.headers.get("sec-fetch-site") == CROSS_SITE and request.method == "GET":
        target = _same_place(request)
        return shell.render("continue.html.j2", {"target": target, "title": "One moment"})
    return shell.render("login.html.j2", {"fault": ""}, status=401)


def _same_place(request: AnyRequest) -> str:
    """The address asked for, if it is surely one of ours: `//host` and `/\\host` lead elsewhere."""
    path = request.scope["path"]
    if _PLAIN_PATH.fullmatch(path) is None:
        return HOME
    query = request.scope["query_string"].decode("ascii", "replace")
    return f"{path}?{query}" if query else path


def _cookie(access: Access, value: str, *, max_age_s: int) -> Cookie:
    return Cookie(
        key=access.cookie_name,
        value=value,
        max_age=max_age_s,
        expires=max_age_s,
        path="/",
        httponly=True,
        samesite="strict",
        secure=access.is_https,
    )


HANDLERS = (
    healthz,
    home,
    traces_page,
    trace_page,
    logs_page,
    status_page,
    log_in,
    log_out,
)
