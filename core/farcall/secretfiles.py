"""Names of the files in `secrets_dir`, one secret each, mode 0600. On Kubernetes a mounted Secret's keys."""

import hmac
from pathlib import Path

INGEST_TOKEN = "ingest-token"
STORE_WRITER_PASSWORD = "store-writer-password"
STORE_READER_PASSWORD = "store-reader-password"
STORE_ADMIN_PASSWORD = "store-admin-password"
REDIS_AGENT_PASSWORD = "redis-agent-password"
REDIS_EXPORTER_PASSWORD = "redis-exporter-password"
API_TOKEN = "api-token"
COOKIE_KEY = "cookie-key"
ADMIN_SECRET = "admin-secret"

ALL = (
    INGEST_TOKEN,
    STORE_WRITER_PASSWORD,
    STORE_READER_PASSWORD,
    STORE_ADMIN_PASSWORD,
    REDIS_AGENT_PASSWORD,
    REDIS_EXPORTER_PASSWORD,
    API_TOKEN,
    COOKIE_KEY,
    ADMIN_SECRET,
)
# Of a ClickHouse server that the user runs; only there when the TracingConfig names a Secret. Ours to read, not to make.
CLICKHOUSE_USERNAME = "clickhouse-username"
CLICKHOUSE_PASSWORD = "clickhouse-password"
MIN_LENGTH = 32  # characters; 32 random url-safe ones are 192 bits


class SecretError(Exception):
    """A secret file is missing, unreadable or too short; the message names the file, never the secret."""


def read_secret(secrets_dir: str | Path, name: str) -> str:
    path = Path(secrets_dir) / name
    try:
        secret = path.read_text(encoding="ascii").strip()
    except OSError as e:
        raise SecretError(f"{path}: cannot be read: {e.strerror or e}") from e
    except UnicodeDecodeError:
        # Not chained: the codec's message and the exception's `object` hold the secret.
        raise SecretError(f"{path}: holds something else than ASCII text") from None
    if flaw := find_flaw(secret):
        raise SecretError(f"{path}: {flaw}")
    return secret


def read_store_login(secrets_dir: str | Path, own_user: str, own_file: str) -> tuple[str, str]:
    """User and password for the store: the user's for a ClickHouse server, else `own_user`. Raises SecretError."""
    folder = Path(secrets_dir)
    if not (folder / CLICKHOUSE_USERNAME).exists():
        return own_user, read_secret(folder, own_file)
    return read_given(folder, CLICKHOUSE_USERNAME), read_given(folder, CLICKHOUSE_PASSWORD)


def read_given(folder: Path, name: str) -> str:
    """What a user made, so as short as that may be; a line break at the end is the editor's."""
    try:
        text = (folder / name).read_text(encoding="utf-8").rstrip("\r\n")
    except OSError as e:
        raise SecretError(f"{folder / name}: cannot be read: {e.strerror or e}") from e
    except UnicodeDecodeError:
        raise SecretError(f"{folder / name}: holds something else than text") from None
    if not text or not text.isprintable():
        raise SecretError(f"{folder / name}: is empty or holds control characters")
    return text


def find_flaw(secret: str) -> str | None:
    """What is wrong with it, None when nothing is; the secret itself is not in the answer."""
    if not all("!" <= character <= "~" for character in secret.strip()):
        # It becomes a header and a URL's part; a line break in the middle would become two headers.
        return "holds spaces or control characters"
    if secret.strip() != secret.strip("\n"):
        return "begins or ends with a space"  # which one reader would strip and another would not
    if len(secret.strip()) < MIN_LENGTH:
        return f"holds fewer than {MIN_LENGTH} characters"
    return None


def is_same_secret(given: str, expected: str) -> bool:
    """Compares in constant time."""
    return hmac.compare_digest(
        given.encode(errors="surrogatepass"), expected.encode(errors="surrogatepass")
    )
