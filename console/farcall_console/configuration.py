"""The effective config as it is now: read again when its file changed, kept when the new one is broken."""

import time

from farcall import journal
from farcall.effective import EffectiveConfig, EffectiveConfigError, EffectiveWatcher

log = journal.get_log("console")


class LiveConfig:
    """Asked on each request that needs it: one `stat`, and no thread of its own."""

    def __init__(self, watcher: EffectiveWatcher) -> None:
        self._watcher = watcher
        self.fault: str | None = None  # a sentence, while the file on disk cannot be used
        self.changed_ns = (
            0  # Unix; when the config in force was first read; 0 for the one of the start
        )

    def read(self) -> EffectiveConfig:
        try:
            if self._watcher.poll() is not None:
                self.fault = None
                self.changed_ns = time.time_ns()
        except EffectiveConfigError as e:
            self.fault = f"The config file is broken, the last good one is in force: {e}"
            log.error("config refused", error=str(e))
        return self._watcher.current
