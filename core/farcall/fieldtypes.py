"""The kinds of text in a TracingConfig: what each may hold, and how a fault of it is told.

The patterns are also the CRD's, so they must mean the same in Python and in RE2; what a pattern cannot say (is it a
CIDR?) is a function here and a CEL rule there (farcall.crd).
"""

import ipaddress
from typing import Annotated, Any

from pydantic import AfterValidator, Field

from farcall.kinds import check_cidr, refuse_mapped
from farcall.quantities import (
    BYTES_PATTERN,
    QUANTITY_PATTERN,
    RETENTION_PATTERN,
    parse_bytes,
    parse_duration_s,
)

# A child's name is `<name>-<part>`; 40 leaves room for the part, a hash and a pod's suffix in 63 (RFC 1123 label).
NAME_PATTERN = r"^[a-z0-9]([-a-z0-9]{0,38}[a-z0-9])?$"

MAX_RETENTION = "3650d"  # ten years; nanoseconds of more than 292 do not fit the store's integers
MAX_SIZE = "8192Ti"  # 2^53: what every JSON reader holds exactly


def _check_address(text: str) -> str:
    try:
        if "%" in text:
            raise ValueError("a zone means nothing on another machine")
        refuse_mapped(ipaddress.ip_address(text))
    except ValueError as e:
        raise ValueError("must be an IP address such as 10.96.0.10") from e
    return text


def _check_retention(text: str) -> str:
    if parse_duration_s(text) > parse_duration_s(MAX_RETENTION):
        raise ValueError(f"must be at most {MAX_RETENTION}")
    return text


def _check_size(text: str) -> str:
    if parse_bytes(text) > parse_bytes(MAX_SIZE):
        raise ValueError(f"must be at most {MAX_SIZE}")
    return text


LABEL_PATTERN = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"
LABEL_VALUE_PATTERN = r"^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$"
SUBDOMAIN_PATTERN = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"
KEY_PATTERN = r"^[-._a-zA-Z0-9]+$"  # of a Secret
HEADER_PATTERN = r"^[a-z0-9-]+$"
# Printable ASCII, and no `@`: a user and a password would be shown wherever the URL is.
URL_PATTERN = r"^https?://[!-?A-~]+$"
IMAGE_PATTERN = r"^[A-Za-z0-9][-A-Za-z0-9._:/@]*[A-Za-z0-9]$"
REGISTRY_PATTERN = r"^[A-Za-z0-9]([-A-Za-z0-9._:/]*[A-Za-z0-9])?$"
DIGEST_PATTERN = r"^sha256:[0-9a-f]{64}$"

Cidr = Annotated[str, Field(max_length=43), AfterValidator(check_cidr)]
Address = Annotated[str, Field(max_length=39), AfterValidator(_check_address)]
Retention = Annotated[
    str, Field(pattern=RETENTION_PATTERN, max_length=8), AfterValidator(_check_retention)
]
Size = Annotated[str, Field(pattern=BYTES_PATTERN, max_length=12), AfterValidator(_check_size)]
Label = Annotated[str, Field(min_length=1, max_length=63, pattern=LABEL_PATTERN)]
Subdomain = Annotated[str, Field(min_length=1, max_length=253, pattern=SUBDOMAIN_PATTERN)]
Text = Annotated[str, Field(min_length=1, max_length=1024)]
# Handed through to Kubernetes as it is (tolerations, affinity and the like): its own schema is the API server's business.
PassThrough = dict[str, Any]

PATTERN_EXAMPLES = {
    RETENTION_PATTERN: "3d: a whole number above 0 and h, d or w",
    BYTES_PATTERN: "8Gi: a whole number above 0 and Ki, Mi, Gi or Ti",
    QUANTITY_PATTERN: "100m or 256Mi: a number above 0 and a unit of Kubernetes",
    NAME_PATTERN: "main: a DNS label of at most 40 characters",
    LABEL_PATTERN: "kube-system: lower-case letters, digits and hyphens",
    LABEL_VALUE_PATTERN: "linux: letters, digits, hyphens, dots and underscores, as in a label",
    SUBDOMAIN_PATTERN: "calls.example.com: lower-case letters, digits, hyphens and dots",
    KEY_PATTERN: "ca.crt: letters, digits, hyphens, dots and underscores",
    HEADER_PATTERN: "x-request-id: lower-case letters, digits and hyphens",
    URL_PATTERN: "https://host:port/path, without user and password",
    IMAGE_PATTERN: "docker.io/library/redis:7.2, a full reference of an image",
    REGISTRY_PATTERN: "mirror.example.com/farcall, without a scheme",
    DIGEST_PATTERN: "sha256: and 64 hexadecimal digits",
}
