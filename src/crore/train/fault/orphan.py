"""A process that ends when the one that started it is gone, in whatever way it went."""

from __future__ import annotations

import os
import signal
import threading
import time
from typing import Final

LOOK_S: Final = 1.0


def leave_with_parent() -> None:
    """Have this process be asked to end by SIGTERM once its parent has ended."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(LOOK_S)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True, name="crore-orphan").start()
