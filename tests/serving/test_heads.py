"""Answers leave in one piece."""

import asyncio

from sft_magics.serving.heads import Gathered


class Pipe:
    """A transport that remembers."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.closed = False

    def write(self, data: bytes) -> None:
        assert not self.closed
        self.written.append(data)

    def close(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed


def test_what_is_written_in_one_turn_is_sent_at_once() -> None:
    async def answer() -> list[bytes]:
        pipe = Pipe()
        gathered = Gathered(pipe, asyncio.get_running_loop())  # type: ignore[arg-type]
        gathered.write(b"head ")
        gathered.write(b"body")
        assert pipe.written == []
        await asyncio.sleep(0)
        gathered.write(b"more")
        await asyncio.sleep(0)
        gathered.write(b"last")
        gathered.close()
        await asyncio.sleep(0)
        return pipe.written

    assert asyncio.run(answer()) == [b"head body", b"more", b"last"]


def test_a_client_that_has_gone_is_sent_nothing() -> None:
    async def leave() -> list[bytes]:
        pipe = Pipe()
        gathered = Gathered(pipe, asyncio.get_running_loop())  # type: ignore[arg-type]
        gathered.write(b"answer")
        pipe.close()  # by the other end
        await asyncio.sleep(0)
        return pipe.written

    assert asyncio.run(leave()) == []
