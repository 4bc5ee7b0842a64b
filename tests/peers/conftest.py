"""Lets the peer cases be imported as `tests.peers.*`, as benchmarks/peers.py does too."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))
