"""JSON becomes the API's dataclasses, or an error that says where it does not fit."""

import json
from dataclasses import asdict

import pytest

from farcall.api import ComponentStatus, Evidence, Span, SpanPage, Status
from farcall.client import ApiShapeError, parse_shape
from support_api import EVIDENCE, SPAN, STATUS

pytestmark = pytest.mark.unit


def through_json(value: object) -> object:
    return json.loads(json.dumps(value))


def test_what_was_written_is_read_back() -> None:
    page = SpanPage(items=(SPAN,), next="c")

    assert parse_shape(SpanPage, through_json(asdict(page))) == page
    assert parse_shape(Evidence, through_json(asdict(EVIDENCE))) == EVIDENCE
    assert parse_shape(Status, through_json(asdict(STATUS))) == STATUS


def test_whole_numbers_are_floats_where_floats_are_meant() -> None:
    component = ComponentStatus(
        kind="agent",
        name="n",
        version="1",
        seen_ns="1",
        started_ns="1",
        config_generation=1,
        alive=True,
        capabilities=({"name": "syscalls"},),
        counters={"events": "1"},
        gauges={"rss_bytes": 12.0},
    )
    value = asdict(component) | {"gauges": {"rss_bytes": 12}}

    assert parse_shape(ComponentStatus, through_json(value)) == component


def test_a_newer_servers_extra_fields_do_no_harm() -> None:
    assert parse_shape(Span, asdict(SPAN) | {"links": [], "colour": "blue"}).span_id == SPAN.span_id


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"duration_ns": 12}, "the answer.duration_ns is not of the expected type str"),
        ({"is_server_span": "true"}, "the answer.is_server_span is not of the expected type bool"),
        ({"links": [{"trace_id": "1"}]}, "the answer.links[0] lacks span_id"),
        ({"attributes": {"k": 1}}, "the answer.attributes.k is not of the expected type str"),
        ({"links": None}, "the answer.links is not of the expected type"),
    ],
)
def test_a_wrong_shape_says_where(change: dict[str, object], message: str) -> None:
    value = asdict(SPAN) | {"links": []} | change

    with pytest.raises(ApiShapeError) as caught:
        parse_shape(Span, value)

    assert message in str(caught.value)


def test_a_missing_field_is_named() -> None:
    value = asdict(SPAN) | {"links": []}
    del value["service"]

    with pytest.raises(ApiShapeError, match=r"the answer lacks service"):
        parse_shape(Span, value)


@pytest.mark.parametrize("value", [None, 1, "x", [], True])
def test_what_is_no_object_is_refused(value: object) -> None:
    with pytest.raises(ApiShapeError):
        parse_shape(Span, value)
