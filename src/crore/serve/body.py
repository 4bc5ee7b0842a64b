"""The body of a request: read whole, no larger and no slower than the limits allow."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from crore.serve.requests import Limits, Refused

if TYPE_CHECKING:
    from starlette.requests import Request

DRAINED: Final = 64
"""Times the limit that is read, and thrown away, of a body that is too large: a client that still
sends would not see why it is refused."""


async def read_body(request: Request, limits: Limits) -> bytes:
    """Return the body; Refused when it is too large (413) or comes too slowly (408)."""
    parts, size = [], 0
    try:
        async with asyncio.timeout(limits.body_s):
            async for part in request.stream():
                size += len(part)
                if size <= limits.body_bytes:
                    parts.append(part)
                elif size > DRAINED * limits.body_bytes:
                    break
    except TimeoutError as error:
        raise Refused(408, f"the body did not come within {limits.body_s:g} s") from error
    if size > limits.body_bytes:
        raise Refused(413, f"the body is larger than {limits.body_bytes:,} bytes")
    return b"".join(parts)
