"""The library that our endpoints serve HTTP with, and nothing behind it: what a request costs at the least.

It waits for as long as a model computes, because a processor that has slept does the same work several times slower.

    python -m tests.benchmarks.bare_peer PORT SECONDS
"""

import asyncio
import json
import sys
import time
from typing import Any

import uvicorn

_ANSWER = json.dumps({"predictions": [{"label": "positive", "confidence": 0.9}]}).encode()


def main(port: int, seconds: float) -> None:
    """Serve until killed."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        if scope["path"] == "/stats":
            said = json.dumps({"processor_s": {"http": time.thread_time()}}).encode()
        else:
            await asyncio.sleep(seconds)
            said = _ANSWER
        head = [(b"content-type", b"application/json"), (b"content-length", str(len(said)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": head})
        await send({"type": "http.response.body", "body": said})

    uvicorn.run(app, port=port, lifespan="off", ws="none", access_log=False, log_config=None, server_header=False)


if __name__ == "__main__":
    main(int(sys.argv[1]), float(sys.argv[2]))
