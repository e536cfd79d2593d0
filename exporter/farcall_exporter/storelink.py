"""The one place that knows which store implements the writer's port."""

from farcall.effective import EffectiveConfig
from farcall.secretfiles import STORE_WRITER_PASSWORD, read_secret
from farcall.storeport import Writer
from farcall_store.writer import StoreWriter


def connect_writer(config: EffectiveConfig) -> Writer:
    """Connects at the first call, not here. Raises SecretError."""
    password = read_secret(config.secrets_dir, STORE_WRITER_PASSWORD)
    return StoreWriter(config.endpoints.store, password=password)
