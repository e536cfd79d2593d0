"""`farcall spans | traces | logs | explain | login`: the HTTP API on a terminal.

In local mode address and token come from the run directory by themselves; elsewhere `--url` and `--token-file` name
them. `json` and `ndjson` are the API's own shapes and stay stable; the table is for people and may change.
Exit codes: 0, 1 when the server cannot be asked or has no such thing, 2 when the question makes no sense.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from farcall import listings
from farcall.api import DEFAULT_LIMIT, MAX_LIMIT, LogQuery, Problem, SpanQuery, Window
from farcall.client import (
    ApiClient,
    ApiError,
    ApiProblemError,
    Server,
    find_server,
    read_token_file,
)
from farcall.commands import EXIT_FAULT, EXIT_OK, EXIT_USAGE
from farcall.effective import EffectiveConfigError, read_effective
from farcall.logintoken import LIFETIME_S, mint_login_token, render_login_link
from farcall.quantities import parse_duration_s
from farcall.rundir import RUN_ROOT, RunDir, RunDirError, find_rundir
from farcall.secretfiles import ADMIN_SECRET, SecretError, read_secret
from farcall.terminal import escape_text

FOLLOW_EVERY_S = 1.0
# Spans arrive after their time (batches, joins held back for a few seconds), so following looks back this far.
FOLLOW_BACK_S = 30
EARLIEST_NS = 0
BAD_REQUEST = (400, 422)
HEX = frozenset("0123456789abcdef")


class UsageError(Exception):
    """The arguments make no sense; the message says why."""


def main_spans(argv: Sequence[str]) -> int:
    parser = make_parser("spans", "List spans, newest first.")
    add_list_options(parser)
    return run(lambda: list_spans(parser.parse_args(argv)))


def main_traces(argv: Sequence[str]) -> int:
    parser = make_parser("traces", "List traces that hold a matching span, newest first.")
    add_list_options(parser)
    return run(lambda: list_traces(parser.parse_args(argv)))


def main_logs(argv: Sequence[str]) -> int:
    parser = make_parser("logs", "Search log lines, newest first.")
    add_list_options(parser)
    parser.add_argument("--trace", action="append", default=[], metavar="ID", help="of this trace")
    parser.add_argument("--span", action="append", default=[], metavar="ID", help="of this span")
    parser.add_argument("--oldest-first", action="store_true", help="turn the order round")
    return run(lambda: list_logs(parser.parse_args(argv)))


def main_explain(argv: Sequence[str]) -> int:
    parser = make_parser("explain", "Why a span has its name, or none: the evidence.")
    parser.add_argument("ids", nargs="+", metavar="ID", help="SPAN_ID, or TRACE_ID SPAN_ID")
    parser.add_argument("-o", "--output", choices=("text", "json"), default="text")
    return run(lambda: explain(parser.parse_args(argv)))


def main_login(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="farcall login", description="Print a link that logs in to the console, once."
    )
    add_instance_options(parser)
    return run(lambda: login(parser.parse_args(argv)))


def run(command: Callable[[], int]) -> int:
    """Turns what can go wrong into one sentence and an exit code."""
    try:
        return command()
    except UsageError as e:
        return fail(str(e), EXIT_USAGE)
    except ApiProblemError as e:
        code = EXIT_USAGE if e.problem.status in BAD_REQUEST else EXIT_FAULT
        return fail(f"{e}{tell_position(e.problem)}", code)
    except (ApiError, RunDirError, SecretError, EffectiveConfigError) as e:
        return fail(str(e), EXIT_FAULT)
    except KeyboardInterrupt:
        return EXIT_OK  # how one leaves --follow
    except BrokenPipeError:
        # `farcall spans | head`: the reader has what it wants. The interpreter must not flush into the pipe again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_OK


def tell_position(problem: Problem) -> str:
    if problem.position is None or problem.field is None:
        return ""
    return f", at character {problem.position + 1} of {problem.field}"


def fail(message: str, code: int) -> int:
    sys.stderr.write(f"farcall: {escape_text(message)}\n")
    return code


def make_parser(name: str, brief: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=f"farcall {name}", description=brief)
    add_instance_options(parser)
    parser.add_argument("--url", help="of the console, instead of a local instance")
    parser.add_argument("--token-file", type=Path, help="file with the API token, with --url")
    return parser


def add_instance_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--instance", help="which local instance, when several run")
    parser.add_argument("--run-root", type=Path, default=RUN_ROOT, help=f"default {RUN_ROOT}")


def add_list_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-q", "--query", default="", help="in the search language")
    parser.add_argument("--from", dest="start", metavar="TIME", help="RFC 3339, or 15m for ago")
    parser.add_argument("--to", dest="end", metavar="TIME", help="the same; now when left out")
    parser.add_argument("--limit", type=int, default=DEFAULT_LIMIT, help=f"default {DEFAULT_LIMIT}")
    parser.add_argument("-o", "--output", choices=("table", "json", "ndjson"), default="table")
    parser.add_argument("-f", "--follow", action="store_true", help="go on with what comes in")


def open_client(arguments: argparse.Namespace) -> ApiClient:
    if arguments.url is None:
        if arguments.token_file is not None:
            raise UsageError("--token-file needs --url")
        return ApiClient(find_server(find_instance(arguments)))
    if arguments.token_file is None:
        raise UsageError("--url needs --token-file, the file that holds the API token")
    return ApiClient(Server(url=arguments.url, token=read_token_file(arguments.token_file)))


def find_instance(arguments: argparse.Namespace) -> RunDir:
    return find_rundir(arguments.instance, root=arguments.run_root)


def list_spans(arguments: argparse.Namespace) -> int:
    client, query = open_client(arguments), build_span_query(arguments)
    if arguments.follow:
        return follow(
            arguments.output,
            listings.SPANS,
            lambda window: client.list_spans(replace(query, window=window, limit=MAX_LIMIT)).items,
        )
    pages = read_pages(
        lambda cursor, limit: client.list_spans(replace(query, cursor=cursor, limit=limit)),
        query.limit,
    )
    return write_list(arguments.output, listings.SPANS, pages)


def list_traces(arguments: argparse.Namespace) -> int:
    client, query = open_client(arguments), build_span_query(arguments)
    if arguments.follow:
        raise UsageError("traces grow while they are listed: follow spans instead")
    pages = read_pages(
        lambda cursor, limit: client.list_traces(replace(query, cursor=cursor, limit=limit)),
        query.limit,
    )
    return write_list(arguments.output, listings.TRACES, pages)


def list_logs(arguments: argparse.Namespace) -> int:
    client, spans = open_client(arguments), build_span_query(arguments)
    query = LogQuery(
        q=spans.q,
        window=spans.window,
        limit=spans.limit,
        trace_ids=tuple(arguments.trace),
        span_ids=tuple(arguments.span),
        ascending=arguments.oldest_first,
    )
    if arguments.follow:
        newest_first = replace(query, ascending=False, limit=MAX_LIMIT)
        return follow(
            arguments.output,
            listings.LOGS,
            lambda window: client.list_logs(replace(newest_first, window=window)).items,
        )
    pages = read_pages(
        lambda cursor, limit: client.list_logs(replace(query, cursor=cursor, limit=limit)),
        query.limit,
    )
    return write_list(arguments.output, listings.LOGS, pages)


def build_span_query(arguments: argparse.Namespace) -> SpanQuery:
    if arguments.limit < 1:
        raise UsageError("--limit must be at least 1")
    window = None
    if arguments.start is not None or arguments.end is not None:
        now_ns = time.time_ns()
        start = parse_time_ns(arguments.start, now_ns) if arguments.start else EARLIEST_NS
        end = parse_time_ns(arguments.end, now_ns) if arguments.end else now_ns
        if start >= end:
            raise UsageError("--from must be before --to")
        window = Window(from_ns=start, to_ns=end)
    return SpanQuery(q=arguments.query, window=window, limit=arguments.limit)


def parse_time_ns(text: str, now_ns: int) -> int:
    """Unix nanoseconds of `15m` (ago), `now`, RFC 3339 or a whole number of nanoseconds. Raises UsageError."""
    if text == "now":
        return now_ns
    if text.isascii() and text.isdigit():
        return int(text)
    try:
        return now_ns - parse_duration_s(text) * 1_000_000_000
    except ValueError:
        pass
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as e:
        raise UsageError(
            f"{text!r} is no time: write 15m for fifteen minutes ago, or 2026-11-25T08:00:00Z"
        ) from e
    if moment.tzinfo is None:
        raise UsageError(f"{text!r} has no time zone: end it with Z or an offset such as +01:00")
    whole = int((moment.replace(microsecond=0) - datetime.fromtimestamp(0, UTC)).total_seconds())
    return whole * 1_000_000_000 + moment.microsecond * 1_000


def read_pages(read: Callable[[str | None, int], Any], limit: int) -> tuple[list[Any], str | None]:
    """Up to `limit` items over as many pages as that takes, and the cursor of what comes after them."""
    items: list[Any] = []
    cursor: str | None = None
    while len(items) < limit:
        page = read(cursor, min(MAX_LIMIT, limit - len(items)))
        items += page.items
        cursor = page.next
        if cursor is None:
            break
    return items, cursor


def write_list(output: str, listing: listings.Listing, pages: tuple[list[Any], str | None]) -> int:
    items, cursor = pages
    if output == "json":
        document = {"items": [asdict(item) for item in items], "next": cursor}
        sys.stdout.write(json.dumps(document, indent=2) + "\n")
    elif output == "ndjson":
        write_lines(json.dumps(asdict(item)) for item in items)
    elif items:
        write_lines(listings.render_listing(listing, items, width=read_width()))
    else:
        sys.stderr.write(f"no {listing.noun} found\n")
    sys.stdout.flush()
    return EXIT_OK


def follow(output: str, listing: listings.Listing, read: Callable[[Window], Sequence[Any]]) -> int:
    """Prints what is new, oldest first, until the user has seen enough."""
    seen: dict[str, None] = {}
    title = True
    while True:
        now_ns = time.time_ns()
        window = Window(from_ns=now_ns - FOLLOW_BACK_S * 1_000_000_000, to_ns=now_ns)
        items = [item for item in reversed(read(window)) if listing.identify(item) not in seen]
        seen |= dict.fromkeys(listing.identify(item) for item in items)
        seen = dict.fromkeys(list(seen)[-100 * MAX_LIMIT :])
        if output == "table":
            lines = list(listings.render_listing(listing, items, width=read_width()))
            write_lines(lines if title else lines[1:])
            title = title and not items
        else:
            write_lines(json.dumps(asdict(item)) for item in items)
        sys.stdout.flush()
        time.sleep(FOLLOW_EVERY_S)


def write_lines(lines: Iterator[str] | Sequence[str]) -> None:
    sys.stdout.writelines(f"{line}\n" for line in lines)


def read_width() -> int | None:
    """Of the terminal; None when the output goes elsewhere, where nothing should be cut."""
    try:
        return os.get_terminal_size(sys.stdout.fileno()).columns or None
    except (OSError, ValueError):
        return None


def explain(arguments: argparse.Namespace) -> int:
    ids = [text.lower() for text in arguments.ids]
    lengths = [len(text) for text in ids]
    if lengths not in ([16], [32, 16]) or not all(HEX.issuperset(text) for text in ids):
        raise UsageError(
            "give a SPAN_ID of 16 hex digits, with its TRACE_ID of 32 before it if known"
        )
    client = open_client(arguments)
    span_id = ids[-1]
    trace_id = ids[0] if len(ids) == 2 else find_trace(client, span_id)
    evidence = client.read_evidence(trace_id, span_id)
    if arguments.output == "json":
        sys.stdout.write(json.dumps(asdict(evidence), indent=2) + "\n")
    else:
        write_lines(listings.render_evidence(evidence))
    return EXIT_OK


def find_trace(client: ApiClient, span_id: str) -> str:
    spans = client.list_spans(SpanQuery(q=f"span:{span_id}", limit=2)).items
    if not spans:
        raise ApiError(f"there is no span {span_id}, or it is older than the store keeps")
    if len({span.trace_id for span in spans}) > 1:
        raise ApiError(f"several traces hold a span {span_id}: give the trace's ID before it")
    return spans[0].trace_id


def login(arguments: argparse.Namespace) -> int:
    config = read_effective(find_instance(arguments).effective)
    secret = read_secret(config.secrets_dir, ADMIN_SECRET)
    token = mint_login_token(secret, now_s=time.time())
    sys.stdout.write(f"{render_login_link(config.endpoints.console, token)}\n")
    sys.stderr.write(f"works once, within {LIFETIME_S // 60} minutes\n")
    return EXIT_OK
