"""Images and label maps, however other programs have stored them."""

import io
import os
import struct
import zlib

import numpy as np
import pytest

cv2 = pytest.importorskip("cv2", reason="images are read with OpenCV")
Image = pytest.importorskip("PIL.Image", reason="label maps are read with Pillow")

from helpers.paths import shared_path  # noqa: E402
from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from rloss_caffe.data.palette import palette_values, voc_palette  # noqa: E402
from rloss_caffe.data.reading import read_image, read_label  # noqa: E402

VOC = voc_palette()
GREY, PALETTE = 0, 3


def png(values, depth=8, colour_type=GREY, palette=()):
    """A PNG file of `values` (H, W), packed as they are: the test's own writer, with every depth that PNG has."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    height, width = values.shape
    bits = np.unpackbits(values.astype(np.uint8)[..., np.newaxis], axis=2)[..., 8 - depth :].reshape(height, -1)
    lines = b"".join(b"\0" + np.packbits(line).tobytes() for line in bits)
    header = struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, 0)
    colours = chunk(b"PLTE", bytes(np.ravel(palette).tolist())) if len(palette) else b""
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + colours
        + chunk(b"IDAT", zlib.compress(lines))
        + chunk(b"IEND", b"")
    )


def read(tmp_path, data, name="label.png"):
    (tmp_path / name).write_bytes(data)
    return read_label(str(tmp_path / name))


# --- label maps ------------------------------------------------------------------------------------------------------


@st.composite
def label_maps(draw, most=255):
    """A few labels on a small map."""
    labels = draw(st.lists(st.integers(0, most), min_size=1, max_size=20, unique=True))
    height, width = draw(st.integers(1, 9)), draw(st.integers(1, 9))
    choice = draw(st.integers(0, 2**32 - 1))
    return np.random.RandomState(choice).choice(np.array(labels, np.uint8), (height, width))


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_a_label_map_reads_the_same_however_it_is_stored_or_is_refused(tmp_path_factory, data):
    """An optimiser may keep a picture's colours and change all else: order, number and depth of a palette."""
    labels = data.draw(label_maps())
    is_voc = data.draw(st.booleans())
    colours = VOC if is_voc else np.arange(256, dtype=np.uint8)[:, np.newaxis].repeat(3, 1)
    kept = np.unique(labels)
    more = data.draw(st.lists(st.integers(0, 255), max_size=10))
    order = data.draw(st.permutations(sorted({*kept.tolist(), *more})))
    least = next(depth for depth in (1, 2, 4, 8) if len(order) <= 2**depth)
    depth = data.draw(st.sampled_from([depth for depth in (1, 2, 4, 8) if depth >= least]))
    indices = np.zeros(256, np.uint8)
    indices[order] = np.arange(len(order))
    stored = png(indices[labels], depth, PALETTE, colours[order])
    folder = tmp_path_factory.mktemp("label")
    try:
        found = read(folder, stored)
    except ValueError as error:
        assert "which may be greys or VOC's own" in str(error) and {*order} <= {0, 7, 56, 63, 64, 128, 192}
    else:
        assert np.array_equal(found, labels)
        if not is_voc:
            assert np.array_equal(cv2.imread(str(folder / "label.png"), cv2.IMREAD_GRAYSCALE), labels)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_a_palette_of_any_other_kind_is_refused_or_says_its_classes(data):
    """Against the rule said in another way: a label has its colour, or stands at its place in VOC's palette."""
    n = data.draw(st.integers(1, 256))
    random = np.random.RandomState(data.draw(st.integers(0, 2**32 - 1)))
    palette = VOC[:n].copy() if data.draw(st.booleans()) else VOC[random.randint(0, 256, n)]
    changed = random.randint(0, n, data.draw(st.integers(0, 3)))
    palette[changed] = random.randint(0, 256, (len(changed), 3))
    used = np.unique(random.randint(0, n, data.draw(st.integers(1, 30))))
    try:
        found = palette_values(palette, used)
    except ValueError:
        return
    is_grey = (palette == palette[:, :1]).all()
    for index in used:
        has_its_colour = (palette[index] == VOC[found[index]]).all() or (is_grey and palette[index, 0] == found[index])
        assert has_its_colour or index == found[index] == 255
    assert len(np.unique(found[used])) == len(used)


@pytest.mark.parametrize("depth", [1, 2, 4, 8])
def test_greys_are_what_opencv_reads(tmp_path, depth):
    values = np.arange(2**depth).reshape(2, -1)
    expected = values * (255 // (2**depth - 1))
    assert np.array_equal(read(tmp_path, png(values, depth)), expected)
    assert np.array_equal(cv2.imread(str(tmp_path / "label.png"), cv2.IMREAD_GRAYSCALE), expected)


@pytest.mark.parametrize("format", ["PNG", "BMP", "TIFF", "GIF"])
@pytest.mark.parametrize("kind", ["grey", "voc", "one bit"])
def test_pillows_own_files(tmp_path, format, kind):
    labels = np.random.RandomState(0).randint(0, 21, (9, 7)).astype(np.uint8)
    labels[0] = 255
    picture = Image.fromarray(labels)
    if kind == "voc":
        picture = Image.fromarray(labels, "P")
        picture.putpalette(VOC.ravel().tolist())
    elif kind == "one bit":
        labels = np.where(labels < 9, 255, 0).astype(np.uint8)
        picture = Image.fromarray(labels).convert("1")
    stored = io.BytesIO()
    picture.save(stored, format)
    assert np.array_equal(read(tmp_path, stored.getvalue()), labels)


def test_ignored_pixels_may_have_a_colour_of_their_own(tmp_path):
    labels = np.array([[0, 20, 255]], np.uint8)
    for ignored in ((255, 255, 255), (0, 0, 0), (128, 0, 0)):
        palette = VOC.copy()
        palette[21:] = 0
        palette[255] = ignored
        assert np.array_equal(read(tmp_path, png(labels, 8, PALETTE, palette)), labels)
    # Without the colours of the classes between nothing says that the last one means 255.
    with pytest.raises(
        ValueError, match=r"neither grey nor VOC's, with the colours \(0, 0, 0\), \(0, 64, 128\), \(255,"
    ):
        read(tmp_path, png(np.array([[0, 1, 2]]), 2, PALETTE, [VOC[0], VOC[20], (255, 255, 255)]))


@pytest.mark.parametrize(
    "palette, message",
    [
        (
            [(7 * i % 256, i, 9) for i in range(256)],
            "neither grey nor VOC's, with the colours .0, 0, 9., .*; store the",
        ),
        ([(0, 0, 0), (128, 128, 128)], "may be greys or VOC's own: .0, 0, 0., .128, 128, 128.; store the class"),
        ([VOC[0], VOC[1], VOC[0]], "has one colour of VOC's palette at several indices"),
        ([VOC[0], VOC[2]], "has a palette of 2 colours, and pixels with the index 2"),
    ],
)
def test_palettes_that_say_no_classes(tmp_path, palette, message):
    labels = np.array([[0, 1, 2]]) if len(palette) != 2 or palette[1][0] != 128 or palette[1][1] == 0 else [[0, 1]]
    with pytest.raises(ValueError, match=f"the label map .*label.png.*({message})"):
        read(tmp_path, png(np.array(labels), 8, PALETTE, palette))


@pytest.mark.parametrize("mode", ["RGB", "I;16", "LA", "F"])
def test_other_pictures_are_no_labels(tmp_path, mode):
    Image.new(mode, (4, 4)).save(tmp_path / "label.tiff")
    with pytest.raises(ValueError, match="one channel of 8 bits"):
        read_label(str(tmp_path / "label.tiff"))


def test_label_maps_of_other_people():
    folder = shared_path("cases/label-grey-palette-png")
    for name in ("dog", "voc"):
        before, after = (read_label(str(folder / f"{name}_{when}.png")) for when in ("before", "after"))
        assert np.array_equal(before, after) and {0, 12, 255} <= set(np.unique(before))


# --- orientation -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format", ["JPEG", "PNG"])
def test_pixels_are_read_as_they_are_stored(tmp_path, orientation, format):
    pixels = np.zeros((16, 24), np.uint8)
    pixels[:8, :8] = 200
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"a.{format}"
    Image.fromarray(pixels).save(path, format, exif=exif, **({"quality": 100} if format == "JPEG" else {}))
    assert np.abs(read_image(str(path))[..., 0].astype(int) - pixels).max() <= 2
    assert np.abs(read_label(str(path)).astype(int) - pixels).max() <= 2


# --- names and damage ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["Bäume", "图片", "a b", "a\nb", "\u3000", "a\udce4b", "-", "%s"])
def test_every_name_works(tmp_path, name):
    path = str(tmp_path / name)
    with open(path, "wb") as file:
        file.write(png(np.arange(6).reshape(2, 3)))
    assert np.array_equal(read_image(path, is_color=False)[..., 0], read_label(path))
    os.unlink(path)
    for function in (read_image, read_label):
        with pytest.raises(ValueError, match="could not open or decode") as error:
            function(path)
        str(error.value).encode()  # a terminal takes the message


@pytest.mark.parametrize("function", [read_image, read_label])
@pytest.mark.parametrize(
    "content", [None, b"", b"no picture", b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR", b"Pf\n2 2\n-1\n" + bytes(16)]
)
def test_broken_files(tmp_path, function, content):
    path = tmp_path / "broken.png"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ValueError, match=r"(could not open or decode|must have) .*broken.png|broken.png.* must have"):
        function(str(path))
    with pytest.raises(ValueError, match="could not open or decode"):
        function(f"{path}\0")


def test_a_picture_too_large_for_opencv_is_an_error_with_its_name(tmp_path):
    header = struct.pack(">IIBBBBB", 2**15, 2**16, 8, 2, 0, 0, 0)
    data = (
        b"\x89PNG\r\n\x1a\n"
        + struct.pack(">I", 13)
        + b"IHDR"
        + header
        + struct.pack(">I", zlib.crc32(b"IHDR" + header))
    )
    (tmp_path / "large.png").write_bytes(data + bytes(100))
    for function in (read_image, read_label):
        with pytest.raises(ValueError, match="could not open or decode .*large.png"):
            function(str(tmp_path / "large.png"))


def encoded(suffix, progressive=False):
    pixels = cv2.resize(np.random.RandomState(0).randint(0, 256, (9, 12, 3), np.uint8), (96, 64))
    options = [cv2.IMWRITE_JPEG_PROGRESSIVE, 1] if progressive else []
    return cv2.imencode(suffix, pixels, options)[1].tobytes()


FILES = {suffix: encoded(suffix) for suffix in (".jpg", ".png", ".bmp", ".tiff", ".webp", ".ppm")}
FILES["progressive.jpg"] = encoded(".jpg", progressive=True)
# Cameras put a small JPEG, with an end of its own, before the picture.
FILES["thumbnail.jpg"] = (
    FILES[".jpg"][:2] + b"\xff\xe1" + struct.pack(">H", len(FILES[".jpg"]) + 2) + 2 * FILES[".jpg"][:]
)
FILES["thumbnail.jpg"] = FILES["thumbnail.jpg"][: 6 + len(FILES[".jpg"])] + FILES[".jpg"][2:]


@pytest.mark.parametrize("name", FILES)
def test_half_a_file_is_never_half_a_picture(tmp_path, name):
    """Cut anywhere, a file gives an error or the whole picture."""
    data, path = FILES[name], str(tmp_path / f"a{name}")
    with open(path, "wb") as file:
        file.write(data)
    whole = read_image(path)
    assert np.array_equal(whole, cv2.imread(path))
    for length in {*np.linspace(1, len(data) - 1, 60).astype(int).tolist(), *range(len(data) - 20, len(data))}:
        with open(path, "wb") as file:
            file.write(data[:length])
        try:
            assert np.array_equal(read_image(path), whole), length
        except ValueError as error:
            assert "could not open or decode" in str(error)
    with open(path, "wb") as file:
        file.write(data + b"what some programs add")
    assert np.array_equal(read_image(path), whole)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_damaged_files_are_refused_in_words_or_read(tmp_path_factory, data):
    """Any exception but ValueError fails the test, and a crash of the decoder ends it."""
    kind = data.draw(st.sampled_from(sorted(FILES)))
    content = bytearray(FILES[kind])
    for _ in range(data.draw(st.integers(1, 8))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.mktemp("damaged") / f"a{kind}"
    path.write_bytes(content)
    for function in (read_image, read_label):
        try:
            assert function(str(path)).dtype == np.uint8
        except ValueError as error:
            assert f"a{kind}" in str(error)
