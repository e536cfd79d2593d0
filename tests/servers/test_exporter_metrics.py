"""Prometheus reads the exporter's counters from the port that applications send OTLP to."""

import re
from collections.abc import Iterator

import httpx
import pytest

from farcall_exporter.counters import NAMES
from support_exporter_process import ExporterProcess, running_exporter

pytestmark = pytest.mark.servers
LINE = re.compile(r"(# (HELP|TYPE) )?farcall_exporter_[a-z_]+ \S.*")


@pytest.fixture(scope="module")
def exporter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ExporterProcess]:
    with running_exporter(tmp_path_factory.mktemp("exporter")) as running:
        yield running


def read_metrics(exporter: ExporterProcess) -> dict[str, float]:
    answer = httpx.get(f"{exporter.config.endpoints.exporter_otlp_http}/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert [line for line in answer.text.splitlines() if not LINE.fullmatch(line)] == []
    samples = (line.split() for line in answer.text.splitlines() if not line.startswith("#"))
    return {name: float(value) for name, value in samples}


def test_every_counter_is_there_and_counts(exporter: ExporterProcess) -> None:
    before = read_metrics(exporter)
    assert {f"farcall_exporter_{name}_total" for name in NAMES} < set(before)

    refused = httpx.post(f"{exporter.config.endpoints.exporter_otlp_http}/v1/nothing")
    assert refused.status_code == 404
    name = "farcall_exporter_otlp_refused_total"
    assert read_metrics(exporter)[name] == before[name] + 1


def test_only_reading_is_asked_of_it(exporter: ExporterProcess) -> None:
    answer = httpx.post(f"{exporter.config.endpoints.exporter_otlp_http}/metrics")

    assert answer.status_code == 404
