"""The files of the page, as they are served. They hold no figures, and need no key."""

from importlib.resources import files
from pathlib import PurePath

from aiohttp import web

_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
# Nothing comes from elsewhere, and nobody else frames the page.
_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}

_ROOT = "/ui"
_NAMES = {f"{_ROOT}/{file.name}": file.name for file in files(__package__).joinpath("static").iterdir()}
_NAMES[f"{_ROOT}/"] = "index.html"

PATHS = frozenset({"/", _ROOT, *_NAMES})
"""Where the page and its files are."""


class PageFiles:
    """Answers from memory: no path of a request ever reaches the disk."""

    def __init__(self) -> None:
        static = files(__package__).joinpath("static")
        self._bodies = {path: static.joinpath(name).read_bytes() for path, name in _NAMES.items()}

    def routes(self) -> list[web.RouteDef]:
        """What is answered here."""
        return [
            web.get("/", self.redirect),
            web.get(_ROOT, self.redirect),
            *(web.get(path, self.file) for path in _NAMES),
        ]

    async def redirect(self, request: web.Request) -> web.Response:
        """To the page, relative to where a proxy may have put it."""
        return web.Response(status=308, headers={"Location": "ui/"})

    async def file(self, request: web.Request) -> web.Response:
        """The page, or what it loads."""
        kind = _TYPES[PurePath(_NAMES[request.path]).suffix]
        return web.Response(body=self._bodies[request.path], content_type=kind, charset="utf-8", headers=_HEADERS)
