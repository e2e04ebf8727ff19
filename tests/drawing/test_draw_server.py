"""Hostile and clumsy requests, against a real server process of `rloss-caffe draw`."""

import gzip
import http.client
import json
import os
import signal
import socket
import struct
import time
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlparse

import numpy as np
import pytest
from helpers.browser import COMPILED, serving

for module in ("bottle", "waitress", "cv2"):
    pytest.importorskip(module, reason=f"rloss-caffe draw needs {module}")
Image = pytest.importorskip("PIL.Image", reason="label maps need Pillow")

from rloss_caffe.drawing.folder import LABELS  # noqa: E402

CLASSES = ("background", "cat", "dog")
SECRET = b"a line that stands outside of the folder"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("drawing") / "mine"
    photos = root / "JPEGImages"
    photos.mkdir(parents=True)
    random = np.random.RandomState(0)
    for name, size in (
        ("a.png", (20, 30)),
        ("b.png", (40, 24)),
        ("f_later.png", (9, 9)),
        ("g_large.png", (300, 400)),
        ("c <img src=x onerror=alert(1)>.png", (16, 16)),
    ):
        Image.fromarray(random.randint(0, 256, (*size, 3)).astype(np.uint8)).save(photos / name)
    (root.parent / "secret.txt").write_bytes(SECRET)
    (photos / "d_link.png").symlink_to(root.parent / "secret.txt")
    data = (photos / "a.png").read_bytes()
    (photos / "e_cut.png").write_bytes(data[: len(data) // 2])
    return root


@pytest.fixture(scope="module")
def address(folder):
    with serving(folder, CLASSES) as (process, address):
        yield urlparse(address)
        assert process.poll() is None, "the server has ended"


def request(address, path, method="GET", body=None, prefix=None, timeout=20, **headers):
    """Status, headers and body of an answer; names of headers have _ for -."""
    connection = http.client.HTTPConnection(address.hostname, address.port, timeout=timeout)
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request(method, (address.path if prefix is None else prefix) + path, body, given)
    answer = connection.getresponse()
    text = answer.read()
    connection.close()
    if answer.getheader("Content-Encoding") == "gzip":
        text = gzip.decompress(text)
    return answer.status, answer.headers, text


def send(address, path, value, method="POST", timeout=COMPILED, **headers):
    body = value if isinstance(value, (bytes, str)) else json.dumps(value)
    headers.setdefault("Content_Type", "application/json")
    status, _, text = request(address, path, method, body, timeout=timeout, **headers)
    return status, json.loads(text) if text[:1] == b"{" else text


def unframed(text):
    (length,) = struct.unpack("<I", text[:4])
    about = json.loads(text[4 : 4 + length])
    values = np.frombuffer(text[4 + length :], np.uint8)
    return about, values[: about["width"] * about["height"]].reshape(about["height"], about["width"])


def labels(address, number):
    return unframed(request(address, f"labels/{number}")[2])


def patch(version, box=(0, 0, 2, 1), runs=(1, 2), page="test", sequence=None):
    sequence = time.monotonic_ns() // 1000 if sequence is None else sequence
    return {"version": version, "page": page, "sequence": sequence, "box": list(box), "runs": list(runs)}


def number_of(address, text):
    photos = json.loads(request(address, "folder")[2])["photos"]
    return next(number for number, name in enumerate(photos) if text in name)


def raw(address, data, seconds=10):
    """What the server answers to bytes, until it ends the connection or says nothing for a second."""
    with socket.create_connection((address.hostname, address.port), timeout=seconds) as connection:
        connection.sendall(data)
        connection.settimeout(1)
        answer = b""
        try:
            while True:
                part = connection.recv(65536)
                if not part:
                    return answer
                answer += part
        except socket.timeout:
            return answer


def test_page_and_its_files_are_given_with_strict_headers(address):
    status, headers, text = request(address, "")
    assert status == 200 and b"<canvas" in text
    for name in ("page.css", "page.js", "view.js", "label_map.js", "palette.js", "server.js", "icon.svg"):
        assert request(address, name)[0] == 200, name
    policy = headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy and "frame-ancestors 'none'" in policy
    assert headers["X-Content-Type-Options"] == "nosniff" and headers["Referrer-Policy"] == "no-referrer"
    assert headers["Cache-Control"] == "no-store" and "Server" not in headers
    assert "Access-Control-Allow-Origin" not in headers


@pytest.mark.parametrize("prefix", ["/", "/x/", "/../", "//", "/%00/", "/%C3%A4/", "", "/?token=x"])
def test_nothing_is_given_without_the_token(address, prefix):
    for path in ("", "folder", "photos/0", "page.js"):
        status, _, text = request(address, path, prefix=prefix or "/")
        assert status in (400, 403, 404), (prefix, path)
        assert b"JFIF" not in text and b"classes" not in text and b"canvas" not in text


def test_a_token_that_is_nearly_right_is_wrong(address):
    token = address.path.strip("/")
    assert len(token) >= 32
    for near in (token[:-1], token + "A", token.swapcase(), token[:-1] + ("A" if token[-1] != "A" else "B")):
        assert request(address, "", prefix=f"/{near}/")[0] == 403, near


@pytest.mark.parametrize(
    "host",
    ["evil.example", "127.0.0.1.evil.example", "evil.example:80", "10.0.0.1", "", "[::1", "localhost@evil", "a b"],
)
def test_other_hosts_are_refused(address, host):
    assert request(address, "folder", Host=host)[0] in (400, 403)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "LOCALHOST:9000", "[::1]:8000", "127.0.0.1:1"])
def test_own_hosts_are_taken(address, host):
    assert request(address, "folder", Host=host)[0] == 200


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "null", "https://127.0.0.1", "http://127.0.0.1:1", "file://"]
)
def test_pages_of_other_sites_are_refused(address, origin):
    version = labels(address, 0)[0]["version"]
    assert send(address, "labels/0", patch(version), "PUT", Origin=origin)[0] == 403
    assert request(address, "folder", Origin=origin)[0] == 403
    assert request(address, "folder", Sec_Fetch_Site="cross-site", Sec_Fetch_Mode="no-cors")[0] == 403
    assert labels(address, 0)[0]["version"] == version


def test_own_origin_is_taken(address):
    assert request(address, "folder", Origin=f"http://{address.netloc}")[0] == 200
    assert request(address, "", Sec_Fetch_Site="cross-site", Sec_Fetch_Mode="navigate")[0] == 200  # a link to the page


@pytest.mark.parametrize(
    "path",
    [
        "../secret.txt", "..%2fsecret.txt", "%2e%2e/%2e%2e/secret.txt", "..%5csecret.txt", "photos/../../secret.txt",
        "photos/..%2f..%2fsecret.txt", "photos/%2fetc%2fpasswd", "photos/-1", "photos/5000", "photos/0x1", "photos/1e0",
        "photos/0/../../secret.txt", "labels/%00", "photos/99999999999999999999", "page.py", "server.py", "%70age.html",
        "photos/%EF%BC%91", "photos/", "photos", "page.js/", ".%00./", "static/../page.js",
    ],
)  # fmt: skip
def test_no_path_leads_out_of_the_folder(address, path):
    status, _, text = request(address, path)
    assert status in (400, 403, 404), (path, status)
    assert SECRET not in text and b"root:" not in text and b"Traceback" not in text


def test_a_link_out_of_the_folder_shows_nothing_of_what_it_leads_to(address):
    told = json.loads(request(address, "folder")[2])
    assert not [name for name in told["photos"] if "link" in name]
    assert [line for line in told["problems"] if "d_link.png" in line and "out of the folder" in line]


def test_a_photograph_that_becomes_a_link_shows_nothing_either(address, folder):
    path = folder / "JPEGImages" / "f_later.png"
    number = number_of(address, "f_later")
    path.unlink()
    path.symlink_to(folder.parent / "secret.txt")
    status, _, text = request(address, f"photos/{number}")
    assert status == 422 and SECRET not in text and b"out of the folder" in text


def test_a_damaged_photograph_is_told_in_a_line(address, folder):
    number = number_of(address, "e_cut")
    for path in (f"photos/{number}", f"labels/{number}"):
        status, _, text = request(address, path)
        error = json.loads(text)["error"]
        assert status == 422 and "JPEGImages/e_cut.png" in error and "\n" not in error
        assert str(folder) not in error


def test_strokes_are_saved_and_read_again(address, folder):
    about, before = labels(address, 0)
    assert before.shape == (20, 30)
    status, answer = send(address, "labels/0", patch(about["version"], (3, 4, 2, 3), (1, 4, 2, 1, 255, 1)), "PUT")
    assert status == 200 and answer["done"] is True
    expected = before.copy()
    expected[4:7, 3:5] = [[1, 1], [1, 1], [2, 255]]
    again, after = labels(address, 0)
    np.testing.assert_array_equal(after, expected)
    assert again["version"] == answer["version"] > about["version"]
    with Image.open(folder / LABELS / "a.png") as image:
        assert image.mode == "P"
        np.testing.assert_array_equal(np.asarray(image), expected)


def test_a_stale_save_is_refused_and_changes_nothing(address):
    version = labels(address, 1)[0]["version"]
    assert send(address, "labels/1", patch(version, runs=(1, 2), page="one"), "PUT")[0] == 200
    status, answer = send(address, "labels/1", patch(version, runs=(2, 2), page="two"), "PUT")
    assert status == 409 and "changed elsewhere" in answer["error"]
    now, values = labels(address, 1)
    assert values[0, 0] == 1
    # The page that wrote last may go on without its answer; an older request of it that comes late changes nothing.
    assert send(address, "labels/1", patch(version, runs=(2, 2), page="one"), "PUT")[0] == 200
    assert send(address, "labels/1", patch(version, runs=(1, 2), page="one", sequence=1), "PUT")[0] == 200
    assert labels(address, 1)[1][0, 0] == 2
    assert now["version"] < labels(address, 1)[0]["version"]


def test_a_file_that_another_program_changes_is_a_new_version(address, folder):
    version, values = labels(address, 1)
    assert send(address, "labels/1", patch(version["version"]), "PUT")[0] == 200
    before = labels(address, 1)[0]["version"]
    path = folder / LABELS / "b.png"
    other = np.full(values.shape, 2, np.uint8)
    Image.fromarray(other).save(path)
    assert send(address, "labels/1", patch(before), "PUT")[0] == 409
    now, values = labels(address, 1)
    assert now["version"] != before
    np.testing.assert_array_equal(values, other)


BAD_PATCHES = {
    "label beyond": {"runs": [3, 2]},
    "label below": {"runs": [-1, 2]},
    "label 254": {"runs": [254, 2]},
    "too few": {"runs": [1, 1]},
    "too many": {"runs": [1, 3]},
    "a count that wraps": {"runs": [1, 2**31 - 1, 1, -(2**31) + 3]},
    "none": {"runs": []},
    "odd": {"runs": [1, 2, 3]},
    "text": {"runs": ["1", 2]},
    "float": {"runs": [1.0, 2]},
    "bool": {"runs": [True, 2]},
    "huge": {"runs": [1, 10**14]},
    "no list": {"runs": {"0": 1}},
    "outside": {"box": [29, 0, 2, 1]},
    "below": {"box": [0, 20, 2, 1]},
    "negative": {"box": [-1, 0, 2, 1]},
    "empty": {"box": [0, 0, 0, 0], "runs": []},
    "negative size": {"box": [2, 2, -2, -1]},
    "three": {"box": [0, 0, 2]},
    "version is text": {"version": "1"},
    "version is true": {"version": True},
    "page is a number": {"page": 1},
    "page is long": {"page": "x" * 1000},
    "one more": {"path": "../x"},
}


@pytest.mark.parametrize("name", BAD_PATCHES)
def test_patches_that_do_not_fit_are_refused(address, name):
    about, before = labels(address, 0)
    status, answer = send(address, "labels/0", {**patch(about["version"]), **BAD_PATCHES[name]}, "PUT")
    assert status == 422 and answer["error"], answer
    again, after = labels(address, 0)
    assert again["version"] == about["version"]
    np.testing.assert_array_equal(after, before)


BAD_BODIES = {
    "empty": b"",
    "text": b"hello",
    "cut": b'{"version": 1',
    "list": b"[]",
    "null": b"null",
    "deep": b"[" * 200_000,
    "a long number": b'{"version": ' + b"1" * 1_000_000 + b"}",
    "NaN": b'{"version": NaN}',
    "no UTF-8": b'{"version": "\xff\xfe"}',
    "UTF-16": '{"version": 1}'.encode("utf-16"),
    "PNG": b"\x89PNG\r\n\x1a\n" + bytes(100),
    "twice": b'{"version": 1, "version": 2}',
}


@pytest.mark.parametrize("name", BAD_BODIES)
def test_bodies_that_are_no_json_are_refused(address, name):
    for path, method in (("labels/0", "PUT"), ("preview", "POST")):
        started = time.monotonic()
        status, answer = send(address, path, BAD_BODIES[name], method)
        assert status in (400, 422) and answer["error"] and "Traceback" not in str(answer)
        assert time.monotonic() - started < 10


def test_forms_and_methods_of_other_sites_are_refused(address):
    body = json.dumps(patch(labels(address, 0)[0]["version"]))
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", ""):
        assert send(address, "labels/0", body, "PUT", Content_Type=kind)[0] == 415
    for method in ("POST", "DELETE", "PATCH", "OPTIONS", "TRACE"):
        assert request(address, "labels/0", method)[0] in (404, 405)
    assert request(address, "preview")[0] in (404, 405)


WISH = {
    "photo": 0, "version": 0, "page": "test", "choice": "densecrf", "options": {"bi_xy_std": 10, "bi_rgb_std": 10},
    "push": 0.5, "net": False, "full": False, "gradient": -1, "at_start": False,
}  # fmt: skip


@pytest.mark.parametrize(
    "change",
    [
        {"choice": "__class__"}, {"choice": "size_constraint"}, {"options": {"bi_xy_std": 1e9}}, {"gradient": 3},
        {"options": {"bi_xy_std": "10"}}, {"options": {"radius": 3}}, {"options": {"num_threads": 10**6}}, {"push": -1},
        {"push": 1e300}, {"net": True}, {"photo": 99}, {"photo": -1}, {"gradient": -2}, {"full": 1}, {"options": []},
    ],
)  # fmt: skip
def test_wishes_that_do_not_fit_are_refused(address, change):
    wish = {**WISH, "version": labels(address, 0)[0]["version"], **change}
    status, answer = send(address, "preview", wish)
    assert status in (404, 422) and answer["error"], answer


def test_a_push_beyond_all_numbers_is_refused(address):
    body = json.dumps({**WISH, "version": labels(address, 0)[0]["version"]}).replace('"push": 0.5', '"push": 1e999')
    assert send(address, "preview", body)[0] == 422


def test_huge_bodies_are_refused_before_they_are_read(address):
    head = f"PUT {address.path}labels/0 HTTP/1.1\r\nHost: {address.netloc}\r\nContent-Type: application/json\r\n"
    answer = raw(address, (head + "Content-Length: 100000000000\r\n\r\n").encode())
    assert answer.split(b" ", 2)[1] == b"413"
    chunks = b"1000000\r\n" + bytes(0x1000000) + b"\r\n" + b"1000000\r\n" + bytes(0x1000000) + b"\r\n"
    try:
        answer = raw(address, (head + "Transfer-Encoding: chunked\r\n\r\n").encode() + chunks)
        assert answer[:12] in (b"", b"HTTP/1.1 413"), answer[:80]
    except (ConnectionError, socket.timeout):
        pass  # cut off
    assert request(address, "folder")[0] == 200


def test_huge_and_broken_headers_are_refused(address):
    for data in (
        b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX: " + b"x" * 1_000_000 + b"\r\n\r\n",
        b"GET " + b"/x" * 500_000 + b" HTTP/1.1\r\n\r\n",
        b"\x00\x01\x02\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: -5\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef",
        b"GET / HTTP/1.1\r\nHost : 127.0.0.1\r\n\r\n",
        b"PUT / HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: gzip\r\n\r\n",
    ):
        try:
            answer = raw(address, data)
        except ConnectionError:
            continue
        assert b"200 OK" not in answer[:40], data[:60]
    assert request(address, "folder")[0] == 200


def test_slow_bodies_hold_up_nobody(address):
    head = f"PUT {address.path}labels/0 HTTP/1.1\r\nHost: {address.netloc}\r\nContent-Type: application/json\r\n"
    slow = []
    try:
        for _ in range(40):  # more than the server has threads
            connection = socket.create_connection((address.hostname, address.port), timeout=10)
            connection.sendall((head + "Content-Length: 1000\r\n\r\n{").encode())
            slow.append(connection)
        started = time.monotonic()
        assert request(address, "folder")[0] == 200
        assert time.monotonic() - started < 5
    finally:
        for connection in slow:
            connection.close()


def test_names_of_files_are_data(address):
    _, _, text = request(address, "folder")
    number = number_of(address, "onerror")
    assert json.loads(text)["photos"][number] == "c <img src=x onerror=alert(1)>"
    assert request(address, "folder")[1]["Content-Type"] == "application/json"
    status, headers, body = request(address, f"photos/{number}")
    assert status == 200 and headers["Content-Type"] == "image/jpeg" and body[:3] == b"\xff\xd8\xff"


def test_labels_that_cannot_be_written_are_told(address, folder):
    if os.geteuid() == 0:
        where = folder / LABELS
        where.mkdir(exist_ok=True)
        away = where.with_name("away")
        where.rename(away)
        where.write_text("a file where the folder was")
        try:
            status, answer = send(address, "labels/0", patch(0, page="new"), "PUT")
            assert status in (409, 422, 503) and answer["error"]
            version = labels(address, 0)[0]["version"]
            assert send(address, "labels/0", patch(version, page="new"), "PUT")[0] in (422, 503)
        finally:
            where.unlink()
            away.rename(where)
    assert request(address, "folder")[0] == 200


def test_the_newest_wish_of_a_page_ends_an_older_one(address):
    number = number_of(address, "large")
    height, width = labels(address, number)[1].shape
    version = labels(address, number)[0]["version"]
    for row, label in ((5, 0), (height - 5, 2)):
        strokes = patch(version, (0, row, width, 2), (label, 2 * width))
        version = send(address, f"labels/{number}", strokes, "PUT")[1]["version"]
    slow = {**WISH, "photo": number, "version": version, "choice": "self_label", "options": {"radius": 8}, "full": True}
    quick = {**WISH, "photo": number, "version": version}
    with ThreadPoolExecutor(4) as pool:
        older = [pool.submit(send, address, "preview", slow) for _ in range(2)]
        time.sleep(0.5)
        other_page = pool.submit(send, address, "preview", {**quick, "page": "another"})
        newest = pool.submit(send, address, "preview", quick)
        assert newest.result()[0] == 200 and other_page.result()[0] == 200
        for each in older:
            status, answer = each.result()
            assert status == 409 and answer["superseded"]


def test_open_to_the_network_it_takes_its_addresses_and_name_alone(tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    with serving(tmp_path, CLASSES, "--host", "0.0.0.0") as (_, address):
        address = urlparse(address)
        here = address._replace(netloc=f"127.0.0.1:{address.port}")
        assert address.hostname == socket.gethostname().lower()
        for host, expected in ((address.netloc, 200), ("10.1.2.3:80", 200), ("evil.example", 403)):
            assert request(here, "folder", Host=host)[0] == expected


def test_ctrl_c_and_sigterm_end_it_at_once(tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    for number in (signal.SIGINT, signal.SIGTERM):
        with serving(tmp_path, CLASSES) as (process, _):
            time.sleep(0.5)
            process.send_signal(number)
            assert process.wait(20) == 0
            assert process.stdout.read().strip() == "ended; what was drawn is saved"


@pytest.mark.parametrize("options", [["--port", "70000"], ["--host", "no.such.host.invalid"], ["--net", "a.prototxt"]])
def test_options_that_are_wrong_are_told_in_a_line(tmp_path, options):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    with pytest.raises(AssertionError, match="the server ended: rloss-caffe draw: [^\n]+\n$"), serving(
        tmp_path, CLASSES, *options
    ):
        pass


def test_several_tabs_at_once_lose_nothing(address):
    """Each saves its own pixels again and again, and reads anew where another was quicker: all are there in the end."""
    about, before = labels(address, 1)

    def tab(row):
        for column in range(8):
            for _ in range(200):
                version = labels(address, 1)[0]["version"]
                status, _ = send(address, "labels/1", patch(version, (column, row, 1, 1), (1, 1), f"tab {row}"), "PUT")
                if status == 200:
                    break
                assert status == 409
            else:
                raise AssertionError("never saved")

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(tab, range(4)))
    after = labels(address, 1)[1]
    assert (after[:4, :8] == 1).all()
    np.testing.assert_array_equal(after[4:], before[4:])
