"""A batch of exchanges with everything decided about its rows: what the builders of spans read."""

from dataclasses import dataclass

import pyarrow as pa

from farcall_exporter.cluster.destinations import Places
from farcall_exporter.exchanges import Exchanges
from farcall_exporter.join import JoinPlan
from farcall_exporter.links import Links
from farcall_exporter.sides import Sides


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    x: Exchanges
    sides: Sides
    plan: JoinPlan
    links: Links
    trace_id: pa.Array  # hex, of every row
    span_id: pa.Array
    parent: pa.Array  # span ID, "" for roots
    own: Places  # this end of every row
