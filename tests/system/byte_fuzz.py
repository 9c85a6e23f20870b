"""Random and mutated bytes as HTTP requests, on sockets. The same seed is the same bytes."""

import random
import socket
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

END_WITHIN_S: Final = 60.0
"""A connection whose client has sent all it will send must have ended by then. A read may wait for 10 s."""
_PIECES: Final = (
    *(b"\r\n", b"\n", b"\r", b"\0", b" ", b"\t", b"%", b"%00", b"%2F", b"%ff", b"..", b"//", b"\xff", b"\xc3\x28"),
    *(b'"', b"\\", b"\\ud800", b"{", b"}", b"[", b"]", b",", b":", b"null", b"-1", b"1e999", b"9" * 400, b"NaN"),
    *(b"?", b"&", b"=", b";", b"+", b"0\r\n\r\n", b"ffffffffffffffff\r\n", b"HTTP/1.1", b"HTTP/2.0", b"A" * 9_000),
    *(b"Content-Length: 5\r\n", b"Content-Length: -1\r\n", b"Content-Length: 99999999999999999999\r\n"),
    *(b"Transfer-Encoding: chunked\r\n", b"Transfer-Encoding: gzip\r\n", b"Expect: 100-continue\r\n"),
    *(b"Authorization: Bearer \r\n", b"Authorization: Basic AAAA\r\n", b"X-Forwarded-For: 1.2.3.4, x\r\n"),
    *(b"Content-Type: text/plain\r\n", b"Host: a\r\n", b"Upgrade: websocket\r\nConnection: Upgrade\r\n"),
    *(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"[" * 3_000, b'{"a":' * 3_000),
)


def request(method: str, target: str, headers: Sequence[tuple[str, str]] = (), body: bytes = b"") -> bytes:
    """A whole request."""
    lines = [f"{method} {target} HTTP/1.1", "Host: stakelog", *(f"{name}: {value}" for name, value in headers)]
    if body:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def mutated(rng: random.Random, whole: bytes) -> bytes:
    """The request with some bytes changed, removed, repeated or inserted: anywhere, or in its body only, whose length
    is then right, so that the body reaches a decoder."""
    head, _, body = whole.partition(b"\r\n\r\n")
    if body and rng.random() < 0.5:
        body = _changed(rng, body)
        lines = [line for line in head.split(b"\r\n") if not line.startswith(b"Content-Length")]
        return b"\r\n".join((*lines, b"Content-Length: %d" % len(body))) + b"\r\n\r\n" + body
    if rng.random() < 0.3:
        first, _, rest = whole.partition(b"\r\n")
        return _changed(rng, first) + b"\r\n" + rest
    return _changed(rng, whole)


def _changed(rng: random.Random, text: bytes) -> bytes:
    changed = bytearray(text)
    for _ in range(rng.choice((1, 1, 1, 2, 4, 16))):
        at = rng.randrange(len(changed) + 1)
        length = rng.choice((1, 1, 2, 8, 64))
        match rng.randrange(6):
            case 0:
                changed[at:at] = rng.choice(_PIECES)
            case 1:
                changed[at : at + length] = rng.choice(_PIECES)
            case 2:
                del changed[at : at + length]
            case 3:
                changed[at : at + length] = rng.randbytes(length)
            case 4:
                changed[at:at] = changed[at : at + length] * rng.choice((1, 2, 50))
            case _:
                del changed[at:]
    return bytes(changed)


class Hang(AssertionError):
    """A connection did not end; the text is what was sent."""


def send(port: int, data: bytes) -> bytes:
    """Send it and nothing more. Returns all that came back until the server closed the connection. Raises Hang."""
    received = bytearray()
    with socket.create_connection(("127.0.0.1", port), timeout=END_WITHIN_S) as connection:
        try:
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
            while part := connection.recv(65_536):
                received += part
        except TimeoutError:
            raise Hang(repr(data)) from None
        except OSError:
            pass  # the server closed the connection before it had read all
    return bytes(received)


def fuzz(port: int, samples: Sequence[bytes], seed: int, number: int, threads: int = 4) -> int:
    """Send so many mutated requests. ``samples``: right requests. Returns how many got a response."""

    def some(thread: int) -> int:
        rng = random.Random(f"{seed}-{thread}")
        responses = 0
        for _ in range(number // threads):
            parts = [mutated(rng, rng.choice(samples)) for _ in range(rng.choice((1, 1, 1, 2)))]
            data = rng.randbytes(rng.randrange(1, 400)) if rng.random() < 0.05 else b"".join(parts)
            responses += send(port, data).startswith(b"HTTP/1.1 ")
        return responses

    with ThreadPoolExecutor(threads) as pool:
        return sum(pool.map(some, range(threads)))
