"""The contracts between the rooms as text, so that a changed column, key or field shows in review as what it is.

Written anew with UPDATE_GOLDEN=1. A change here is a change of what other rooms, other versions or users' scripts rely on.
"""

import dataclasses
import inspect
from enum import EnumType

import pyarrow as pa
import pytest

from farcall import (
    api,
    arrowschemas,
    attributes,
    commands,
    dnscache,
    envelope,
    exchange,
    logintoken,
    names,
    rows,
    secretfiles,
)
from farcall.effective import render_effective
from support_ground import build_example, check_golden

pytestmark = pytest.mark.golden


def dump_schemas(schemas: dict[str, pa.Schema]) -> str:
    lines = []
    for name, schema in schemas.items():
        lines.append(f"{name}:")
        for field in schema:
            lines.append(f"  {field.name}: {field.type}{'' if field.nullable else ' not null'}")
        lines.append("")
    return "\n".join(lines)


def dump_dataclasses(module: object) -> str:
    lines = []
    for name, shape in vars(module).items():
        if inspect.isclass(shape) and dataclasses.is_dataclass(shape):
            lines.append(f"{name}:")
            for field in dataclasses.fields(shape):
                required = field.default is field.default_factory is dataclasses.MISSING
                kind = (
                    field.type
                    if isinstance(field.type, str)
                    else inspect.formatannotation(field.type)
                )
                lines.append(f"  {field.name}: {kind}{'' if required else ' (optional)'}")
            lines.append("")
    return "\n".join(lines)


@pytest.mark.parametrize("name", ["hobby", "scale"])
def test_what_an_example_means(name: str) -> None:
    check_golden(f"effective-{name}.json", render_effective(build_example(name)))


def test_columns_that_leave_a_node() -> None:
    check_golden("exchange.txt", dump_schemas(dict(arrowschemas.SCHEMAS)))


def test_columns_that_are_stored() -> None:
    check_golden("rows.txt", dump_schemas(dict(rows.TABLES)))


def test_flags_of_an_exchange() -> None:
    lines = [f"{flag.name} = {flag.value}" for flag in exchange.ExchangeFlag]
    check_golden("flags.txt", "\n".join(lines) + "\n")


def test_shapes_of_the_api() -> None:
    check_golden("api.txt", dump_dataclasses(api))


def test_shapes_between_agent_and_exporter() -> None:
    paths = f"{envelope.BATCH_PATH} {envelope.BATCH_CONTENT_TYPE}\n{envelope.STATUS_PATH}\n"
    paths += f"{envelope.AGENTS_PATH}\n\n"
    check_golden("envelope.txt", paths + dump_dataclasses(envelope))


def test_span_attributes() -> None:
    lines = [
        f"{a.key}: {a.type} ({a.source}){' = ' + ' | '.join(a.values) if a.values else ''}"
        for a in attributes.REGISTRY.values()
    ]
    check_golden("attributes.txt", "\n".join(lines) + "\n")


def test_words_of_naming() -> None:
    lines = [f"label: {names.UNKNOWN_EXTERNAL_SERVICE}"]
    for name, words in vars(names).items():
        if isinstance(words, EnumType) and words.__module__ == names.__name__:
            lines.append(f"{name}: {', '.join(words)}")
    check_golden("names.txt", "\n".join(lines) + "\n")


def test_keys_in_redis() -> None:
    client, mapped = "c:4c01db0b339c", "::ffff:203.0.113.10"
    lines = [
        dnscache.client_key_of_address(client, "203.0.113.10"),
        dnscache.client_key_of_address("p:node-1:4711:99", "2001:DB8:0::1"),
        dnscache.cluster_key(mapped),
        dnscache.binding_key(client, "10.244.0.5:49152", "203.0.113.10:6379"),
        dnscache.tombstone_key(client, mapped),
    ]
    check_golden("dnscache.txt", "\n".join(lines) + "\n")


def test_names_of_the_secret_files_and_the_login_link() -> None:
    link = logintoken.render_login_link("http://127.0.0.1:8080/", "TOKEN")
    check_golden("secrets.txt", "\n".join([*secretfiles.ALL, link]) + "\n")


def test_commands() -> None:
    lines = [f"{c.name}: {c.target}" for c in commands.COMMANDS]
    check_golden("commands.txt", "\n".join(lines) + "\n\n" + commands.render_help())
