"""The server of `harness view`: pages and data of some runs for one user, on the loopback address only.

Every address begins with a token that is printed for the user only. Requests under another host name are refused
(no other site can then reach the server by DNS), nothing may be read by other origins, and the page may load nothing
from elsewhere.
"""

from __future__ import annotations

import hmac
import logging
import secrets
import threading
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import msgspec
from flask import Flask, Response, abort, jsonify, request

from harness.errors import UserError
from harness.frames import MissingFrames
from harness.paths import Location, ObjectPath
from harness.plain_text import plain
from harness.reports.overlay import colour
from harness.reports.pages import assets, render_page
from harness.reports.view_index import CODES, LENGTH_FILTERS, SIZE_FILTERS, Filters, Index
from harness.reports.view_video import (
    DOWNLOAD_FORMATS,
    AssignedTrack,
    Drawn,
    assigned_tracks,
    export_video,
    outlines,
    picture,
    size_of,
    states,
)
from harness.run_folder.finished_run import RECORD, FinishedRun
from harness.scoring.analysis import HIT
from harness.types import Dataset, Video

log = logging.getLogger(__name__)

HOSTS = ("127.0.0.1", "localhost", "[::1]")
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self';"
    " base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
OUTLINE_WIDTH = 480
"""Outlines are traced on pictures this wide, because the time grows with the number of pixels."""
PAIRS = 500
"""Confusion pairs that are sent unless all are asked for."""
REFRESH_S = 3.0
"""Seconds between two checks of the run folders."""
_ASSETS = {"view.js": "text/javascript", "view.css": "text/css", "page.css": "text/css"}
_MOST_FRAMES = 600


class Library:
    """Runs on one dataset, with the index of their content; it is rebuilt when their folders change."""

    def __init__(self, dataset: Dataset, folders: Sequence[Location]) -> None:
        self.dataset, self.folders = dataset, list(folders)
        self.videos: dict[int, Video] = {video.id: video for video in dataset.videos}
        self.categories = {category.id: plain(category.name) for category in dataset.categories}
        self._stop = threading.Event()
        self.runs, self.index = self._made(self.state())

    def state(self) -> str:
        """A text that changes when a run has more videos, or is scored."""
        parts = []
        for folder in self.folders:
            parts.append(f"{len(FinishedRun(folder).store.done())}.{_written(folder / RECORD)}")
        return "-".join(parts)

    def _made(self, version: str) -> tuple[list[FinishedRun], Index]:
        from harness.reports.run_files import labels_of_records

        runs = [FinishedRun(folder) for folder in self.folders]
        for run, label in zip(runs, labels_of_records([_record(run) for run in runs]), strict=True):
            run.labelled(label)
        return runs, Index(self.dataset, runs, version)

    def refresh(self) -> bool:
        """Check the folders again; return whether anything changed."""
        version = self.state()
        if version == self.index.version:
            return False
        self.runs, self.index = self._made(version)
        _video_data.cache_clear()
        return True

    def watch(self, seconds: float = REFRESH_S) -> None:
        """Refresh in the background until `close`."""

        def work() -> None:
            reported = ""
            while not self._stop.wait(seconds):
                try:
                    self.refresh()
                    reported = ""
                except (UserError, OSError) as error:  # a file that is being written; the next check finds it complete
                    if str(error) != reported:
                        log.warning("%s", error)
                    reported = str(error)

        threading.Thread(target=work, name="view-refresh", daemon=True).start()

    def close(self) -> None:
        """Stop watching."""
        self._stop.set()


def _written(file: Location) -> float:
    """When a file was written, 0 if it is not there."""
    try:
        return file.modified() if isinstance(file, ObjectPath) else Path(str(file)).stat().st_mtime_ns
    except FileNotFoundError:
        return 0


def _record(run: FinishedRun) -> Mapping[str, Any]:
    """The record of a run, or of one that is not finished what is known of it."""
    if (run.folder / RECORD).exists():
        return run.record
    return {**msgspec.to_builtins(run.content), "comparable": None}


def new_token() -> str:
    """A token that cannot be guessed."""
    return secrets.token_urlsafe(24)


def make_app(library: Library, token: str) -> Flask:
    """The application; every address begins with ``/TOKEN``."""
    app = Flask("harness-view", static_folder=None)

    @app.before_request
    def check() -> None:
        name = request.host.rpartition(":")[0] if not request.host.endswith("]") else request.host
        if (name or request.host) not in HOSTS:
            abort(403, "this server answers to localhost only")
        given = request.path.removeprefix("/").partition("/")[0]
        if not hmac.compare_digest(given.encode(), token.encode()):
            abort(403, "the address lacks the token that harness view printed")
        if request.method not in ("GET", "HEAD"):
            abort(405)

    @app.after_request
    def harden(response: Response) -> Response:
        response.headers["Content-Security-Policy"] = _POLICY
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.headers["Referrer-Policy"] = "no-referrer"
        response.headers["Cross-Origin-Resource-Policy"] = "same-origin"
        response.headers["Cross-Origin-Opener-Policy"] = "same-origin"
        response.headers.setdefault("Cache-Control", "no-store")
        return response

    @app.errorhandler(UserError)
    def refused(error: UserError) -> tuple[Response, int]:
        return jsonify(error=plain(f"{error.where}: {error.what}")), 404

    @app.errorhandler(_BadRequestError)
    def wrong(error: _BadRequestError) -> tuple[Response, int]:
        return jsonify(error=plain(str(error))), 400

    @app.get(f"/{token}/")
    def page() -> str:
        return render_page("view.html.j2", title=_title(library), data=_title(library))

    @app.get(f"/{token}/assets/<name>")
    def asset(name: str) -> Response:
        if name not in _ASSETS:
            abort(404)
        return Response(str(assets(name)), mimetype=_ASSETS[name])

    @app.get(f"/{token}/api/about")
    def about() -> Response:
        return jsonify(_about(library))

    @app.get(f"/{token}/api/version")
    def version() -> Response:
        return jsonify(version=library.index.version)

    @app.get(f"/{token}/api/overview")
    def overview() -> Response:
        found = library.index.overview(_runs(library), _filters())
        found["pairs_total"] = [len(pairs) for pairs in found["pairs"]]
        if request.args.get("pairs") != "all":
            found["pairs"] = [pairs[:PAIRS] for pairs in found["pairs"]]
        return jsonify(found)

    @app.get(f"/{token}/api/video/<int(signed=True):video_id>")
    def video(video_id: int) -> Response:
        return jsonify(_video(library, video_id, _filters()))

    @app.get(f"/{token}/api/video/<int(signed=True):video_id>/outlines/<int:frame>")
    def traced(video_id: int, frame: int) -> Response:
        return jsonify(_outlines(library, video_id, frame))

    @app.get(f"/{token}/api/video/<int(signed=True):video_id>/frames/<int:frame>.jpg")
    def shown(video_id: int, frame: int) -> Response:
        response = Response(picture(_one(library, video_id), frame), mimetype="image/jpeg")
        response.headers["Cache-Control"] = "private, max-age=3600"
        return response

    @app.get(f"/{token}/api/video/<int(signed=True):video_id>/export.<kind>")
    def exported(video_id: int, kind: str) -> Response:
        data = _export(library, video_id, kind)
        response = Response(data, mimetype=DOWNLOAD_FORMATS[kind])
        response.headers["Content-Disposition"] = f'attachment; filename="video-{video_id}.{kind}"'
        return response

    return app


class _BadRequestError(ValueError):
    """An invalid value in an address."""


def _title(library: Library) -> str:
    return plain(f"{library.dataset.name} {library.dataset.split}")


def _about(library: Library) -> dict[str, Any]:
    index = library.index
    return {
        "version": index.version,
        "data": _title(library),
        "has_truth": library.dataset.truth is not None,
        "runs": [
            {"label": r.label, "folder": plain(r.folder), "note": r.note, "metrics": dict(r.metrics),
             "done": int(r.done.sum()), "videos": len(run.video_ids.run)}
            for r, run in zip(index.runs, library.runs, strict=True)
        ],
        "videos": len(index.video_ids),
        "categories": [[c, name] for c, name in zip(index.category_ids.tolist(), index.category_names, strict=True)],
        "groups": list(index.groups),
        "kinds": list(CODES),
        "sizes": list(SIZE_FILTERS),
        "lengths": list(LENGTH_FILTERS),
    }  # fmt: skip


def _runs(library: Library) -> list[int]:
    """The runs that an address names, by position; by default all."""
    text = request.args.get("runs", "")
    if not text:
        return list(range(len(library.index.runs)))
    found = [_whole("runs", one) for one in text.split(",")]
    if any(not 0 <= one < len(library.index.runs) for one in found):
        raise _BadRequestError(f"runs {text}: there are {len(library.index.runs)}")
    return list(dict.fromkeys(found))


def _whole(name: str, text: str) -> int:
    try:
        return int(text)
    except ValueError as error:
        raise _BadRequestError(f'{name}: "{text[:40]}" is not a whole number') from error


def _filters() -> Filters:
    args: Mapping[str, str] = request.args

    def number(name: str, default: float) -> float:
        try:
            return float(args.get(name) or default)
        except ValueError as error:
            raise _BadRequestError(f"{name}: is not a number") from error

    def among(name: str, known: Sequence[str]) -> str:
        value = args.get(name, "")
        if value and value not in known:
            raise _BadRequestError(f"{name}: one of {', '.join(known)}")
        return value

    def category(name: str) -> int | None:
        return _whole(name, args[name]) if args.get(name) else None

    return Filters(
        category("category"),
        category("said"),
        args.get("group", ""),
        among("kind", CODES),
        number("low", 0.0),
        number("high", float("inf")),
        among("size", tuple(SIZE_FILTERS)),
        among("length", tuple(LENGTH_FILTERS)),
        args.get("name", "")[:200],
    )


def _one(library: Library, video_id: int) -> Video:
    library.index.video(video_id)
    return library.videos[video_id]


@lru_cache(maxsize=8)
def _video_data(library: Library, video_id: int, version: str) -> tuple[list[Any], list[list[AssignedTrack]]]:
    """The annotated objects of a video, and every run's tracks; the most recent videos are kept."""
    del version  # another version has other tracks
    truth = library.dataset.truth.tracks_of(video_id) if library.dataset.truth is not None else []
    tracks = [
        assigned_tracks(run.store, video_id, library.index.tracks_of(n, video_id, Filters())) if done else []
        for n, run in enumerate(library.runs)
        for done in [bool(library.index.runs[n].done[library.index.video(video_id)])]
    ]
    return truth, tracks


def _video(library: Library, video_id: int, filters: Filters) -> dict[str, Any]:
    video, index = _one(library, video_id), library.index
    truth, tracks = _video_data(library, video_id, index.version)
    frames, chosen = len(video.frames), _runs(library)
    passing = {n: index.tracks_of(n, video_id, filters) for n in chosen}
    objects = []
    for number, one in enumerate(truth):
        strips = []
        for n in chosen:
            kept = [t for t in tracks[n] if filters.low <= t.track.score <= filters.high]
            text, rows = states(one, kept, frames)
            strips.append({"states": text, "rows": rows})
        objects.append({
            "id": one.id, "category": one.category_id, "name": library.categories.get(one.category_id, "?"),
            "crowd": bool(one.is_crowd), "colour": _colour(number), "strips": strips,
            "present": "".join("1" if f < len(one.masks) and one.masks[f] is not None else "0" for f in range(frames)),
        })  # fmt: skip
    numbers = {one.id: number for number, one in enumerate(truth)}
    runs = []
    for n in chosen:
        listed: list[dict[str, Any]] = []
        first = {t.row: _first_frame(t) for t in tracks[n]}
        for place, row in enumerate(passing[n]):
            name = library.categories.get(row["category"], "?")
            tint = _colour(numbers.get(row["object"], len(numbers) + place))
            listed.append({**row, "first": first.get(row["row"], 0), "name": name, "colour": tint})
        at = index.video(video_id)
        runs.append({"label": index.runs[n].label, "done": bool(index.runs[n].done[at]), "tracks": listed})
    width, height = size_of(video)
    return {"id": video_id, "name": plain(video.name), "frames": frames, "width": width, "height": height,
            "has_pictures": not isinstance(video.frames, MissingFrames),
            "outline": list(_outline_size(video)), "objects": objects, "runs": runs}  # fmt: skip


def _first_frame(one: AssignedTrack) -> int:
    return next((f for f, mask in enumerate(one.track.masks) if mask is not None), 0)


def _colour(number: int) -> str:
    return "#{:02x}{:02x}{:02x}".format(*colour(number))


def _outline_size(video: Video) -> tuple[int, int]:
    width = min(OUTLINE_WIDTH, video.width)
    return width, max(1, round(video.height * width / video.width))


def _outlines(library: Library, video_id: int, frame: int) -> dict[str, Any]:
    """Paths in a frame of all objects (``truth``), and of the tracks that the address names as ``tracks0=3,5``."""
    video = _one(library, video_id)
    truth, tracks = _video_data(library, video_id, library.index.version)
    size = _outline_size(video)
    found: dict[str, Any] = {"truth": outlines({str(t.id): t.masks for t in truth}, frame, size), "runs": {}}
    for n, judged in enumerate(tracks):
        text = request.args.get(f"tracks{n}", "")
        wanted = {_whole("tracks", one) for one in text.split(",") if one}
        masks = {str(t.row): t.track.masks for t in judged if t.row in wanted}
        found["runs"][str(n)] = outlines(masks, frame, size)
    return found


def _export(library: Library, video_id: int, kind: str) -> bytes:
    """What the address selects: panes of the truth and of runs, the tracks that pass, from frame ``from`` to ``to``."""
    video, index, filters = _one(library, video_id), library.index, _filters()
    truth, tracks = _video_data(library, video_id, index.version)
    begin = _whole("from", request.args.get("from", "0"))
    end = min(_whole("to", request.args.get("to", str(len(video.frames) - 1))), len(video.frames) - 1)
    if kind not in DOWNLOAD_FORMATS:
        raise _BadRequestError(f"format: one of {', '.join(DOWNLOAD_FORMATS)}")
    if not 0 <= begin <= end or end - begin >= _MOST_FRAMES:
        raise _BadRequestError(f"frames {begin} to {end}: give at most {_MOST_FRAMES} of {len(video.frames)}")
    rate = float(_whole("rate", request.args.get("rate", "6")))
    numbers = {one.id: number for number, one in enumerate(truth)}
    wanted = request.args.get("object", "")
    only = {_whole("object", wanted)} if wanted else None
    panes = [("Truth", [
        Drawn(t.masks, numbers[t.id], library.categories.get(t.category_id, "?"), True)
        for t in truth if only is None or t.id in only
    ])] if truth else []  # fmt: skip
    for n in _runs(library):
        passing = {row["row"] for row in index.tracks_of(n, video_id, filters) if row["passes"]}
        text = request.args.get(f"tracks{n}")
        if text is not None:
            passing &= {_whole("tracks", one) for one in text.split(",") if one}
        drawn = [
            Drawn(t.track.masks, numbers.get(t.truth_id or -1, len(numbers) + t.row),
                  f"{library.categories.get(t.track.category_id, '?')} {t.track.score:.2f}", t.kind == HIT)
            for t in tracks[n] if t.row in passing and (only is None or t.truth_id in only)
        ]  # fmt: skip
        panes.append((index.runs[n].label, drawn))
    return export_video(video, panes, list(range(begin, end + 1)), kind, max(1.0, min(rate, 60.0)))
