"""The one place that knows which store implements the writer's port."""

from farcall.effective import EffectiveConfig
from farcall.secretfiles import STORE_WRITER_PASSWORD, read_store_login
from farcall.storeport import Writer
from farcall_store.writer import StoreWriter


def connect_writer(config: EffectiveConfig) -> Writer:
    """Connects at the first call, not here. Raises SecretError."""
    user, password = read_store_login(config.secrets_dir, "writer", STORE_WRITER_PASSWORD)
    return StoreWriter(config.endpoints.store, user=user, password=password)
