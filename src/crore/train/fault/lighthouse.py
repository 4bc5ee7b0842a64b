"""A lighthouse as a process: `python -m crore.train.fault.lighthouse PORT LEAST GRACE_S [HOST]`."""

from __future__ import annotations

import signal
import sys

from crore.train.fault.orphan import leave_with_parent
from crore.train.fault.torchft import lighthouse


def serve(port: int, least: int, grace_s: float, host: str = "127.0.0.1") -> None:
    """Start a lighthouse, print its address, and wait to be ended."""
    asking = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, asking)  # its threads inherit it
    server = lighthouse(port=port, host=host, least=least, grace_s=grace_s)
    shown = str(server.address()).rpartition(":")[2]
    print(f"http://{host}:{shown}", flush=True)
    signal.sigwait(asking)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, asking)
    server.shutdown()


def main(words: list[str]) -> None:
    """Serve as the words say."""
    serve(int(words[0]), int(words[1]), float(words[2]), *words[3:4])


if __name__ == "__main__":
    leave_with_parent()
    main(sys.argv[1:])
