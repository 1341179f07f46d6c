"""Close connections on which no request arrives, because they take the place of others."""

import asyncio


def connections_for(seconds: float) -> type[asyncio.Protocol]:
    """Return a class of connections with a time limit, for uvicorn's `Config(http=)`.

    uvicorn waits forever for the first request of a connection, and for the rest of a request that
    has begun. With this class, the header of a request must be complete `seconds` after the
    connection was made, or after the first byte that follows the previous answer. Bytes of a body
    that nobody reads any more do not count.
    """
    from uvicorn.protocols.http.h11_impl import H11Protocol

    class Connection(H11Protocol):
        _patience: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:
            super().connection_made(transport)
            self._watch()

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self._watch()

        def connection_lost(self, exc: Exception | None) -> None:
            self._rest()
            super().connection_lost(exc)

        def _watch(self) -> None:
            if self._has_request():
                self._rest()
            elif self._patience is None and not self.transport.is_closing():
                self._patience = self.loop.call_later(seconds, self._give_up)

        def _rest(self) -> None:
            if self._patience is not None:
                self._patience.cancel()
                self._patience = None

        def _give_up(self) -> None:
            self._patience = None
            if not self._has_request():
                self.transport.close()

        def _has_request(self) -> bool:
            return self.cycle is not None and not self.cycle.response_complete

    return Connection
