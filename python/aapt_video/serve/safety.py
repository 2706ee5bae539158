"""Who may talk to the server: a token, the names it answers to, and how much it listens."""

from __future__ import annotations

import hmac
import ipaddress
import time
from dataclasses import dataclass
from urllib.parse import urlsplit

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


@dataclass(frozen=True)
class Gate:
    """Lets a request in, or answers it."""

    token: str | None
    """None only on loopback."""
    names: frozenset[str] = frozenset()
    """Host names besides localhost that requests may come for."""

    def refusal(self, request: web.Request) -> web.Response | None:
        """The answer to a request that is not let in.

        A page of another site can make a browser send requests here. It cannot forge Host and Origin: a name that
        was pointed at this address (DNS rebinding) shows in Host, and another page's socket shows in Origin.
        """
        host = request.headers.get("Host", "")
        if not self._known(host):
            return web.Response(status=403, text="this server does not answer to that name; see --allow-host\n")
        origin = request.headers.get("Origin")
        if origin is not None and urlsplit(origin).netloc.lower() != host.lower():
            return web.Response(status=403, text="this server answers only pages of its own\n")
        if self.token is not None and not self._has_token(request):
            return web.Response(
                status=401,
                text="the token is missing or wrong; open the address that the server printed\n",
                headers={"WWW-Authenticate": "Bearer"},
            )
        return None

    def _known(self, host: str) -> bool:
        try:
            name = urlsplit(f"//{host}").hostname
        except ValueError:
            return False
        if name is None:
            return False
        if name == "localhost" or name in self.names:
            return True
        try:
            ipaddress.ip_address(name)  # a name can be pointed anywhere, an address cannot
        except ValueError:
            return False
        return True

    def _has_token(self, request: web.Request) -> bool:
        assert self.token is not None
        scheme, _, given = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            given = request.query.get("token", "")
        return hmac.compare_digest(given.encode(errors="replace"), self.token.encode())


def guard(gate: Gate) -> Middleware:
    """Middleware: every request passes the gate, every answer carries the headers."""

    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        refused = gate.refusal(request)
        try:
            response = await handler(request) if refused is None else refused
        except web.HTTPException as error:
            error.headers.update(HEADERS)
            raise
        if not response.prepared:
            response.headers.update(HEADERS)
        return response

    return check


class Bucket:
    """How many events may come: `rate` per second, and `burst` at once."""

    def __init__(self, rate: float, burst: float) -> None:
        self._rate, self._burst, self._left = rate, burst, burst
        self._time = time.monotonic()

    def take(self) -> bool:
        """Counts one event; False where it is one too many."""
        now = time.monotonic()
        self._left = min(self._burst, self._left + (now - self._time) * self._rate)
        self._time = now
        if self._left < 1:
            return False
        self._left -= 1
        return True
