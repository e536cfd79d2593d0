"""Everything ClickHouse: schema, migrations, writer, search, readers, and the embedded engine behind HTTP.

Others import `open_writer` and `open_reader` from here, and `farcall_store.search` for the search language. Importing
this loads neither the engine nor the client.
"""

from farcall.storeport import Reader, Writer


def open_writer(url: str, *, password: str, user: str = "writer") -> Writer:
    """What the exporter writes through. Connects at the first call; safe to share between threads."""
    from farcall_store.writer import StoreWriter

    return StoreWriter(url, user=user, password=password)


def open_reader(url: str, *, password: str, user: str = "reader") -> Reader:
    """What the console reads through. Connects at the first call; safe to share between threads."""
    from farcall_store.reader import StoreReader

    return StoreReader(url, user=user, password=password)


__all__ = ["open_reader", "open_writer"]
