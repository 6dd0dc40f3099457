"""What the viewer answers: a page, tiles, values, regions. No path of a request names a file."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import wraps
from typing import Any, Final

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from hespotex.errors import HESpotExError, RunError
from hespotex.viewer.figure import FORMATS, View, draw_view
from hespotex.viewer.gate import Gate, TooLargeError
from hespotex.viewer.library import Library, as_mapping, read_geojson
from hespotex.viewer.opened import OpenedSlide
from hespotex.viewer.page import packed_raster, packed_spots, packed_values, static_text

STATIC: Final = {
    "view.css": "text/css; charset=utf-8",
    "draw.js": "text/javascript; charset=utf-8",
    "pane.js": "text/javascript; charset=utf-8",
    "view.js": "text/javascript; charset=utf-8",
    "regions.js": "text/javascript; charset=utf-8",
}
_BYTES: Final = "application/octet-stream"
_KEPT: Final = {"cache-control": "private, max-age=3600"}
_FRESH: Final = {"cache-control": "no-store"}

Answer = Callable[[Request, Any], Response]


def make_app(library: Library, token: str) -> ASGIApp:
    """The viewer of a library, behind its token."""
    answers = _Answers(library)
    number, tile = "/slide/{slide:int}", "/tile/{zoom:int}/{column:int}/{row:int}"
    gets = {
        "/": answers.page, "/static/{name:str}": answers.static, "/run": answers.run, "/levels": answers.levels,
        number: answers.about, f"{number}/spots": answers.spots, f"{number}/raster": answers.raster,
        f"{number}/values": answers.values, f"{number}/spot/{{spot:int}}": answers.spot, f"{number}/thumbnail": answers.thumbnail, f"{number}{tile}": answers.tile,
    }  # fmt: skip
    posts = {
        f"{number}/region": answers.region,
        "/geojson": answers.geojson,
        "/figure": answers.figure,
    }
    routes = [Route(path, _answered(library, f), methods=["GET"]) for path, f in gets.items()]
    routes += [Route(path, _answered(library, f), methods=["POST"]) for path, f in posts.items()]
    return Gate(Starlette(routes=routes), token)


def _answered(library: Library, answer: Answer) -> Callable[[Request], Any]:
    """Errors that a user can cure become a message on the page, and what changed is opened anew."""

    @wraps(answer)
    async def call(request: Request) -> Response:
        try:
            body = await request.body() if request.method == "POST" else b""
            return await run_in_threadpool(answer, request, body)
        except TooLargeError:
            return PlainTextResponse("too much", 413)
        except HESpotExError as error:
            slide = request.path_params.get("slide")
            if isinstance(error, RunError) and slide is not None:
                library.forget(slide)
            return JSONResponse({"error": str(error)}, 409, headers=_FRESH)
        except (ValueError, KeyError, TypeError):
            return JSONResponse({"error": "the viewer does not understand this request"}, 400)

    return call


class _Answers:
    def __init__(self, library: Library) -> None:
        self._library = library

    def page(self, _request: Request, _body: bytes) -> Response:
        text = static_text("page.html")
        return Response(text, media_type="text/html; charset=utf-8", headers=_FRESH)

    def static(self, request: Request, _body: bytes) -> Response:
        kind = STATIC.get(request.path_params["name"])
        if kind is None:
            return PlainTextResponse("nothing here", 404)
        return Response(
            static_text(request.path_params["name"]), media_type=kind, headers={"cache-control": "no-cache"}
        )  # fmt: skip

    def run(self, _request: Request, _body: bytes) -> Response:
        return JSONResponse(self._library.run(), headers=_FRESH)

    def levels(self, request: Request, _body: bytes) -> Response:
        return JSONResponse(self._library.levels(request.query_params["gene"]), headers=_FRESH)

    def about(self, request: Request, _body: bytes) -> Response:
        return JSONResponse(self._library.about(request.path_params["slide"]), headers=_FRESH)

    def thumbnail(self, request: Request, _body: bytes) -> Response:
        picture = self._library.thumbnail(request.path_params["slide"])
        return Response(picture, media_type="image/jpeg", headers=_KEPT)

    def tile(self, request: Request, _body: bytes) -> Response:
        at = request.path_params
        picture = self._library.tile(at["slide"], at["zoom"], at["column"], at["row"])
        if picture is None:
            return PlainTextResponse("no such tile", 404)
        return Response(picture, media_type="image/jpeg", headers=_KEPT)

    def _slide(self, request: Request) -> OpenedSlide:
        return self._library.slide(request.path_params["slide"])

    def spots(self, request: Request, _body: bytes) -> Response:
        slide = self._slide(request)
        slide.check()
        return Response(packed_spots(slide), media_type=_BYTES, headers=_FRESH)

    def spot(self, request: Request, _body: bytes) -> Response:
        slide = self._slide(request)
        slide.check()
        number = request.path_params["spot"]
        if not 0 <= number < slide.file.n_spots:
            return PlainTextResponse("no such spot", 404)
        return JSONResponse(slide.spot(number), headers=_FRESH)

    def raster(self, request: Request, _body: bytes) -> Response:
        return Response(packed_raster(self._slide(request)), media_type=_BYTES, headers=_FRESH)

    def values(self, request: Request, _body: bytes) -> Response:
        asked = request.query_params
        packed = packed_values(self._slide(request), asked["show"], asked.get("gene", ""))
        return Response(packed, media_type=_BYTES, headers=_FRESH)

    def region(self, request: Request, body: bytes) -> Response:
        polygons = as_mapping(json.loads(body)).get("polygons")
        found = self._library.region(request.path_params["slide"], polygons or [])
        return JSONResponse(found, headers=_FRESH)

    def geojson(self, _request: Request, body: bytes) -> Response:
        return JSONResponse({"regions": read_geojson(body)}, headers=_FRESH)

    def figure(self, _request: Request, body: bytes) -> Response:
        view = View.of(as_mapping(json.loads(body)))
        made = draw_view(self._library, view)
        return Response(made, media_type=FORMATS[view.format], headers=_FRESH)
