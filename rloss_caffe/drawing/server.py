"""The server behind `rloss-caffe draw`: it gives one page, and the photographs and label maps of one folder.

Bottle finds the function for an address, Waitress speaks HTTP: both are small, need nothing else, and run on every
Python that this package does. Waitress reads requests before a thread is taken for them, so that slow ones hold up
nobody, and bounds their sizes.

Who may ask: the first part of every path is a random token, so that neither another user of the machine nor a page of
another site can address anything. The Host must be an address of this machine, or the name that was given, as a name
of somebody else's that leads here (DNS rebinding) would make their page one of ours. An Origin must be this server's.
Photographs are asked for by their number in the folder's list, never by a path.
"""

import gzip
import hmac
import ipaddress
import json
import logging
import os
import re
import secrets
import socket
import struct
import threading
from pathlib import Path

from rloss_caffe.data.files import printable
from rloss_caffe.data.reading import import_cv2
from rloss_caffe.drawing.photos import Patch, Photos, Stale
from rloss_caffe.drawing.previews import CHOICES, LARGEST_PUSH, Previews, Superseded, described, quantized
from rloss_caffe.installation import add_extra

__all__ = ["DrawServer"]

PAGE = Path(__file__).with_name("page")
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
MOST_BYTES = 16 * 2**20  # of a request's body: the runs of a patch
MOST_HEADER_BYTES = 16 * 2**10
SLOWEST = 30  # seconds without a byte, after which a connection ends
THREADS = 8
MOST_SHOWN = 2**22  # pixels of a preview: of a larger one every n-th is sent
QUALITY = 95  # of the JPEG that a photograph is shown as


class DrawServer:
    """Serves a folder.

    Parameters
    ----------
    folder : rloss_caffe.drawing.folder.Folder
    host : str
        An address of this machine, or a name for one. 127.0.0.1 is reached from this machine alone.
    port : int
        0: one that is free.
    net : callable, optional
        From a photograph (H, W, 3), RGB, to its scores (K, H, W).

    Attributes
    ----------
    address : str
        What to open in a browser; whoever knows it may draw.
    is_private : bool
        Whether it is reached from this machine alone.

    Raises
    ------
    ImportError
        Bottle or Waitress is missing.
    OSError
        There is no such host, or the port is taken.
    """

    def __init__(self, folder, host="127.0.0.1", port=0, net=None):
        waitress = _imported("waitress")
        logging.getLogger("waitress").setLevel(logging.ERROR)  # it tells of queues, and of threads at the end
        self._token = secrets.token_urlsafe(24)
        self._guard = _Guard(host, self._token)
        self._previews = Previews(len(folder.classes), net)
        pages = _Pages(folder, self._previews)
        self.is_private = not self._guard.any_address
        try:
            family, _, _, _, found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
            listening = socket.socket(family, socket.SOCK_STREAM)
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind(found)
        except OSError as error:
            raise OSError(error.errno, f"cannot serve at {printable(host)}, port {port}: {error.strerror}") from None
        self._server = waitress.create_server(
            self._guard.around(pages.application()), sockets=[listening], threads=THREADS, ident=None,
            max_request_body_size=MOST_BYTES, max_request_header_size=MOST_HEADER_BYTES, channel_timeout=SLOWEST,
            cleanup_interval=5, connection_limit=200, expose_tracebacks=False,
        )  # fmt: skip
        port = listening.getsockname()[1]
        self.address = f"http://{_shown(host)}:{port}/{self._token}/"

    def run(self):
        """Serve until KeyboardInterrupt comes, which Waitress takes for the end."""
        threading.Thread(target=self._previews.warm, daemon=True).start()
        try:
            self._server.run()
        finally:
            self._previews.end()
            self._server.close()


def _shown(host):
    """A host as it stands in an address; the machine's name for all of its addresses."""
    try:
        if ipaddress.ip_address(host).is_unspecified:
            return socket.gethostname()
    except ValueError:
        return host
    return f"[{host}]" if ":" in host else host


def _imported(name):
    try:
        return __import__(name)
    except ImportError as error:
        raise ImportError(f"the page is served with {name}: {error}; this brings it: {add_extra('draw')}") from error


class _Refusal(Exception):
    """An answer that is not what was asked for: a status and a line for people."""

    def __init__(self, status, text, **more):
        super().__init__(text)
        self.status, self.body = status, {"error": text, **more}


class _Guard:
    """Lets through who knows the token, from where a page of this server may be."""

    def __init__(self, host, token):
        self._token = token.encode()
        self._names = {"localhost", host.lower()}
        self.any_address = not (host == "localhost" or _is_loopback(host))
        if self.any_address:
            self._names.add(socket.gethostname().lower())

    def around(self, application):
        def guarded(environ, start_response):
            try:
                self._check(environ)
            except _Refusal as refusal:
                body = json.dumps(refusal.body).encode()
                headers = {**HEADERS, "Content-Type": "application/json", "Content-Length": str(len(body))}
                start_response(refusal.status, list(headers.items()))
                return [body]
            return application(environ, start_response)

        return guarded

    def _check(self, environ):
        host = environ.get("HTTP_HOST", "")
        if not self._is_ours(host):
            raise _Refusal("403 Forbidden", "this server has another name; open the address that it printed")
        origin = environ.get("HTTP_ORIGIN")
        if origin is not None and origin.lower() != f"http://{host.lower()}":
            raise _Refusal("403 Forbidden", "a page of another site may not ask this server")
        if environ.get("HTTP_SEC_FETCH_SITE", "none") not in ("none", "same-origin") and not _is_visit(environ):
            raise _Refusal("403 Forbidden", "a page of another site may not ask this server")
        given, _, rest = environ.get("PATH_INFO", "").lstrip("/").partition("/")
        if not hmac.compare_digest(given.encode("latin-1", "replace"), self._token):
            raise _Refusal("403 Forbidden", "the token in the address is not this server's")
        environ["SCRIPT_NAME"] = environ.get("SCRIPT_NAME", "") + "/" + given
        environ["PATH_INFO"] = "/" + rest

    def _is_ours(self, host):
        match = re.fullmatch(r"(\[[0-9a-fA-F:.]+\]|[^\[\]:@/\s]+)(:[0-9]{1,5})?", host)
        if not match:
            return False
        name = match.group(1).strip("[]").lower()
        try:
            address = ipaddress.ip_address(name)
        except ValueError:
            return name in self._names
        return self.any_address or address.is_loopback or name in self._names


def _is_visit(environ):
    """A link elsewhere may lead to the page itself, as that of a notebook server or of a mail does."""
    return environ.get("REQUEST_METHOD") == "GET" and environ.get("HTTP_SEC_FETCH_MODE") == "navigate"


def _is_loopback(host):
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class _Pages:
    """What there is at each address."""

    def __init__(self, folder, previews):
        self._folder, self._previews, self._photos = folder, previews, Photos(folder)
        self._listing = threading.Lock()
        folder.write_list()  # another program, or a sudden end, may have left it behind the label maps
        self._files = {path.name: path.read_bytes() for path in PAGE.iterdir() if path.suffix in TYPES}

    def application(self):
        bottle = _imported("bottle")
        self._bottle = bottle
        application = bottle.Bottle(autojson=False)
        for method, path, function in (
            ("GET", "/", lambda: self._file("index.html")),
            ("GET", "/<name:re:[a-z_]+[.][a-z]+>", self._file),
            ("GET", "/folder", self._about_folder),
            ("GET", "/photos/<number:re:[0-9]{1,9}>", self._photo),
            ("GET", "/labels/<number:re:[0-9]{1,9}>", self._labels),
            ("GET", "/versions/<number:re:[0-9]{1,9}>", self._version),
            ("PUT", "/labels/<number:re:[0-9]{1,9}>", self._save),
            ("POST", "/preview", self._preview),
        ):
            application.route(path, method, self._answering(function))
        application.default_error_handler = self._error
        return application

    def _answering(self, function):
        """A function's answer, with headers; of what it raises a line for people."""

        def answer(**arguments):
            try:
                return function(**arguments)
            except _Refusal as refusal:
                return self._json(refusal.body, refusal.status)
            except Stale:
                return self._json({"error": "these labels were changed elsewhere after they were read"}, "409 Conflict")
            except Superseded:
                return self._json({"error": "superseded", "superseded": True}, "409 Conflict")
            except (ValueError, ImportError) as error:
                return self._json({"error": self._told(error)}, "422 Unprocessable Entity")
            except (OSError, MemoryError) as error:
                return self._json({"error": self._told(error)}, "503 Service Unavailable")

        return answer

    def _told(self, error):
        """An error's line, with paths as seen from the folder: where that is, is nobody's business in the page."""
        return _line(error).replace(printable(self._folder.path) + os.sep, "")

    def _error(self, error):
        return self._json({"error": f"there is nothing here ({error.status_line})"}, error.status_line)

    def _response(self, body, kind, status="200 OK", packed=False):
        headers = {**HEADERS, "Content-Type": kind}
        if packed and "gzip" in self._bottle.request.get_header("Accept-Encoding", ""):
            body, headers["Content-Encoding"] = gzip.compress(body, 1), "gzip"
        response = self._bottle.response
        response.status = status
        for name, value in headers.items():
            response.set_header(name, value)
        return body

    def _json(self, value, status="200 OK"):
        return self._response(json.dumps(value).encode(), "application/json", status, packed=True)

    def _framed(self, about, *arrays):
        """JSON with its length before it, and the bytes of arrays behind it."""
        head = json.dumps(about).encode()
        parts = [struct.pack("<I", len(head)), head, *(array.tobytes() for array in arrays)]
        return self._response(b"".join(parts), "application/octet-stream", packed=True)

    def _file(self, name):
        if name not in self._files:
            raise _Refusal("404 Not Found", "there is no such file")
        return self._response(self._files[name], TYPES[Path(name).suffix], packed=True)

    def _about_folder(self):
        folder = self._folder
        return self._json({
            "classes": list(folder.classes), "photos": list(folder.names), "problems": list(folder.problems),
            "done": [folder.has_labels(name) for name in folder.names], "net": self._previews.has_net, **described(),
        })  # fmt: skip

    def _open(self, number):
        if not 0 <= int(number) < len(self._folder.names):
            raise _Refusal("404 Not Found", f"there are {len(self._folder.names)} photographs, from 0")
        return self._photos.get(int(number))

    def _photo(self, number):
        """The pixels as they are stored: a new JPEG without the note that would turn them."""
        cv2 = import_cv2()
        pixels = self._open(number).pixels
        options = [cv2.IMWRITE_JPEG_QUALITY, QUALITY]
        is_made, body = cv2.imencode(".jpg", pixels[:, :, ::-1], options)
        if not is_made:
            raise ValueError("the photograph cannot be shown: it is too large for a JPEG")
        return self._response(body.tobytes(), "image/jpeg")

    def _labels(self, number):
        opened = self._open(number)
        labels, version = opened.labels()
        height, width = labels.shape
        about = {"width": width, "height": height, "version": version}
        about["turned"] = self._folder.is_turned(opened.name)
        return self._framed(about, labels)

    def _version(self, number):
        return self._json({"version": self._open(number).labels()[1]})

    def _save(self, number):
        asked = self._asked(version=int, page=str, sequence=int, box=list, runs=list)
        opened = self._open(number)
        labels, _ = opened.labels()
        patch = Patch(asked["box"], asked["runs"], labels.shape, len(self._folder.classes))
        was_done = self._folder.has_labels(opened.name)
        version = opened.save(patch, asked["version"], asked["page"], asked["sequence"])
        done = self._folder.has_labels(opened.name)
        if done != was_done:
            with self._listing:
                self._folder.write_list()
        return self._json({"version": version, "done": done})

    def _preview(self):
        asked = self._asked(
            photo=int, version=int, page=str, choice=str, options=dict, push=float, net=bool, full=bool, gradient=int,
            at_start=bool,
        )  # fmt: skip
        choice = CHOICES.get(asked["choice"])
        if choice is None:
            raise _Refusal("422 Unprocessable Entity", f"choice must be one of {', '.join(CHOICES)}")
        known = {slider.name: slider for slider in choice.sliders}
        for name, value in asked["options"].items():
            slider = known.get(name)
            if slider is None or type(value) not in (int, float) or not slider.low <= value <= slider.high:
                raise _Refusal(
                    "422 Unprocessable Entity", f"{choice.label} has no slider {name[:40]!r} with this value"
                )
        if not 0 <= asked["push"] <= LARGEST_PUSH:
            raise _Refusal("422 Unprocessable Entity", f"push must be from 0 to {LARGEST_PUSH:g}")
        if asked["net"] and not self._previews.has_net:
            raise _Refusal("422 Unprocessable Entity", "there is no net here: --net and --weights name one")
        if not 0 <= asked["gradient"] < len(self._folder.classes) and asked["gradient"] != -1:
            raise _Refusal("422 Unprocessable Entity", "gradient must be the number of a class, or -1 for none")
        opened = self._open(asked["photo"])
        labels, version = opened.labels()
        if version != asked["version"]:
            raise Superseded

        def result(stage):
            return self._previews.result(
                asked["page"], (asked["photo"], version), opened.pixels, labels, asked["choice"],
                asked["options"], asked["push"], asked["net"], stage,
            )  # fmt: skip

        found = result("full" if asked["full"] else "coarse")
        step = 1
        while labels.size > MOST_SHOWN * step**2:
            step += 1
        shown = found.labels[::step, ::step]
        about = {
            "width": shown.shape[1], "height": shown.shape[0], "step": step, "full": asked["full"],
            "cross_entropy": found.cross_entropy, "loss": found.loss, "weight": found.weight, "push": asked["push"],
            "largest": 0.0,
        }  # fmt: skip
        if asked["gradient"] < 0:
            return self._framed(about, shown)
        gradient = (result("start") if asked["at_start"] else found).gradient_of(asked["gradient"])
        gradient, about["largest"] = quantized(gradient[::step, ::step])
        return self._framed(about, shown, gradient)

    def _asked(self, **kinds):
        """The values of a request's JSON, of these names and kinds."""
        request = self._bottle.request
        if request.environ.get("CONTENT_TYPE", "").partition(";")[0].strip() != "application/json":
            raise _Refusal("415 Unsupported Media Type", "expected JSON, with the content type application/json")
        try:
            asked = json.loads(
                request.environ["wsgi.input"].read(), parse_int=_whole_number, parse_constant=_no_constant
            )
        except (ValueError, RecursionError) as error:
            raise _Refusal("400 Bad Request", f"this is no JSON: {_line(error)}") from None
        if not isinstance(asked, dict) or asked.keys() != kinds.keys():
            raise _Refusal("422 Unprocessable Entity", f"expected JSON with {', '.join(kinds)}")
        for name, kind in kinds.items():
            if type(asked[name]) is int and kind is float:
                asked[name] = float(asked[name])
            if type(asked[name]) is not kind or (kind is str and len(asked[name]) > 100):
                raise _Refusal("422 Unprocessable Entity", f"{name} must be a {kind.__name__}")
        return asked


def _whole_number(digits):
    if len(digits) > 15:  # long ones take Python quadratic time
        raise ValueError("a number has more than 15 digits")
    return int(digits)


def _no_constant(name):
    raise ValueError(f"{name} is no number")


def _line(error):
    return printable(" ".join(str(error).split()))[:500]
