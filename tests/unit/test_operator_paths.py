"""Kinds to paths, requests to the words of RBAC, answers to the port's errors."""

import json

import pytest
from multidict import CIMultiDict, CIMultiDictProxy

from farcall_operator.cluster import answers
from farcall_operator.cluster.paths import Asked, build_path, describe_request
from farcall_operator.cluster.port import Cause, Ref
from farcall_operator.running.options import parse_options

pytestmark = pytest.mark.unit
NO_HEADERS = CIMultiDictProxy(CIMultiDict[str]())


@pytest.mark.parametrize(
    ("method", "path", "watch", "asked"),
    [
        ("GET", "/api/v1/nodes", False, Asked("list", "nodes")),
        ("GET", "/api/v1/nodes", True, Asked("watch", "nodes")),
        ("GET", "/api/v1/namespaces/farcall", False, Asked("get", "namespaces")),
        ("GET", "/api/v1/namespaces/farcall/secrets/s", False, Asked("get", "secrets")),
        ("POST", "/api/v1/namespaces/default/events", False, Asked("create", "events")),
        ("PATCH", "/apis/apps/v1/namespaces/f/daemonsets/d", False, Asked("patch", "daemonsets.apps")),
        ("PATCH", "/apis/farcall.dev/v1alpha1/tracingconfigs/t/status", False,
         Asked("patch", "tracingconfigs.farcall.dev/status")),
        ("PUT", "/apis/coordination.k8s.io/v1/namespaces/f/leases/l", False,
         Asked("update", "leases.coordination.k8s.io")),
        ("DELETE", "/apis/policy/v1/namespaces/f/poddisruptionbudgets/p", False,
         Asked("delete", "poddisruptionbudgets.policy")),
        ("GET", "/version", False, Asked("get", "other")),
        ("GET", "/apis/farcall.dev/v1alpha1", False, Asked("get", "other")),
    ],
)  # fmt: skip
def test_a_request_is_told_in_the_words_of_rbac(method: str, path: str, watch: bool, asked: Asked):
    assert describe_request(method, path, watch=watch) == asked


def test_paths_are_those_of_the_api():
    assert build_path("v1", "secrets", "farcall", "s") == "/api/v1/namespaces/farcall/secrets/s"
    status = build_path("farcall.dev/v1alpha1", "tracingconfigs", name="t", subresource="status")
    assert status == "/apis/farcall.dev/v1alpha1/tracingconfigs/t/status"
    assert build_path("v1", "nodes") == "/api/v1/nodes"


def build_status(message: str) -> bytes:
    causes = [{"reason": "FieldValueInvalid", "field": "spec.x", "message": message}]
    return json.dumps(
        {
            "kind": "Status",
            "reason": "Invalid",
            "message": message,
            "details": {"causes": causes, "retryAfterSeconds": 3},
        }
    ).encode()


def test_an_error_keeps_reason_causes_and_the_wait_it_asks_for():
    error = answers.parse_error(422, NO_HEADERS, build_status("no"), None)

    assert (error.status, error.reason, error.message) == (422, "Invalid", "no")
    assert error.causes == (Cause("FieldValueInvalid", "spec.x", "no"),)
    assert error.retry_after_s == 3.0


def test_an_error_about_a_secret_never_quotes_it():
    about = Ref("v1", "Secret", "farcall", "main-redis")
    error = answers.parse_error(422, NO_HEADERS, build_status('Invalid value: "hunter2"'), about)

    assert "hunter2" not in f"{error} {error.message} {error.causes}"
    assert "spec.x" in error.message


@pytest.mark.parametrize("raw", [b"", b"<html>", b"[]", b'"x"', b'{"kind":"Pod"}', b"\xff"])
def test_a_strange_answer_is_an_error_by_its_code(raw: bytes):
    error = answers.parse_error(503, NO_HEADERS, raw, None)

    assert error.reason == "ServiceUnavailable"
    assert "503" in error.message


def test_an_endless_message_is_cut():
    error = answers.parse_error(422, NO_HEADERS, build_status("x" * 100_000), None)

    assert len(error.message) <= answers.MAX_MESSAGE + 1
    assert len(error.causes[0].message) <= answers.MAX_MESSAGE + 1


def test_warnings_are_unquoted_and_each_told_once():
    headers = CIMultiDict(
        [
            ("Warning", '299 - "would violate \\"restricted\\""'),
            ("Warning", '299 - "second", 299 - "would violate \\"restricted\\""'),
            ("Warning", "199 nonsense"),
        ]
    )

    found = answers.parse_warnings(CIMultiDictProxy(headers))
    assert found == ('would violate "restricted"', "second")


def test_options_have_defaults_and_an_address_to_listen_at():
    options = parse_options([])
    assert (options.host, options.port, options.namespace) == (None, 8080, "")
    named = parse_options(["--listen", "[::1]:9090", "--namespace", "tracing", "--workers", "3"])
    assert (named.host, named.port, named.namespace, named.workers) == ("::1", 9090, "tracing", 3)


@pytest.mark.parametrize(
    "argv",
    [
        ["--listen", "8080"],
        ["--listen", ":70000"],
        ["--resync-s", "0"],
        ["--resync-s", "nan"],
        ["--workers", "0"],
        ["--namespace", "Not_A_Label"],
    ],
)
def test_bad_options_are_refused(argv: list[str], capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit, match="2"):
        parse_options(argv)
    assert argv[0] in capsys.readouterr().err
