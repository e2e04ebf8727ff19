"""The page of `rloss-caffe draw` in a real headless Chromium, on a real server: as a user works with it."""

import os
import signal
import time

import numpy as np
import pytest
from helpers.browser import COMPILED, Page, chromium, serving

for module in ("bottle", "waitress", "cv2"):
    pytest.importorskip(module, reason=f"rloss-caffe draw needs {module}")
Image = pytest.importorskip("PIL.Image", reason="label maps need Pillow")

from rloss_caffe.data.lists import read_list  # noqa: E402
from rloss_caffe.data.palette import voc_palette  # noqa: E402
from rloss_caffe.data.reading import read_image, read_label  # noqa: E402
from rloss_caffe.datasets.strokes import draw_polyline  # noqa: E402
from rloss_caffe.drawing.folder import LABELS, LIST  # noqa: E402
from rloss_caffe.drawing.previews import CHOICES, coarse_scale  # noqa: E402
from rloss_caffe.drawing.segment import segment_from_scribbles  # noqa: E402

CLASSES = ("background", "cat", "dog")
NOTHING = 255
SIZE = (72, 96)
LARGE = (4000, 6000)
HOME, END, RIGHT = "\ue011", "\ue010", "\ue014"


def photograph(seed, size=SIZE):
    """A bright disc on dark ground, with noise."""
    random = np.random.RandomState(seed)
    y, x = np.indices(size)
    disc = (y - size[0] / 2) ** 2 + (x - size[1] / 2) ** 2 < (min(size) / 3) ** 2
    pixels = np.where(disc[:, :, None], [200, 160, 90], [40, 70, 60]) + random.randint(-12, 13, (*size, 3))
    return pixels.astype(np.uint8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("drawing") / "mine"
    photos = root / "JPEGImages"
    photos.mkdir(parents=True)
    for seed in range(13):
        Image.fromarray(photograph(seed)).save(photos / f"{seed:02}.png")
    turned = Image.Exif()
    turned[274] = 6
    Image.fromarray(photograph(20)).save(photos / "20_turned.jpg", exif=turned)
    (photos / "21_cut.png").write_bytes((photos / "00.png").read_bytes()[:2000])
    Image.fromarray(photograph(22)).save(photos / "22 <img src=x onerror=alert(1)>.png")
    Image.fromarray(photograph(23)).convert("CMYK").save(photos / "23_cmyk.jpg")
    deep = photograph(24).astype(np.uint16) * 257
    pytest.importorskip("cv2").imwrite(str(photos / "24_16bit.png"), deep[:, :, ::-1])
    return root


@pytest.fixture(scope="module")
def address(folder):
    with serving(folder, CLASSES) as (_, address):
        yield address


@pytest.fixture(scope="module")
def driver():
    with chromium() as driver:
        yield driver


@pytest.fixture
def opened(driver, address, folder):
    """Opens a photograph by its name, in a page of its own."""
    names = [path.stem for path in sorted((folder / "JPEGImages").iterdir())]

    def open_page(name):
        driver.get("about:blank")
        page = Page(driver, f"{address}#{names.index(name) + 1}")
        assert page.text("name") == name
        return page

    yield open_page
    expected = ("422", "409", "getImageData")  # answers that a test asked for; the tests' own look at the canvas
    problems = [text for text in Page(driver).problems() if not any(each in text for each in expected)]
    assert not problems


def stored(folder, name):
    """The label map that is on the disk."""
    path = folder / LABELS / f"{name}.png"
    return read_label(path) if path.exists() else None


def descendants(pid):
    """The processes below one."""
    parents = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                with open(f"/proc/{entry}/stat") as file:
                    parents.setdefault(int(file.read().rsplit(")", 1)[1].split()[1]), []).append(int(entry))
            except OSError:  # it has ended
                continue
    found = list(parents.get(pid, []))
    for each in found:
        found += parents.get(each, [])
    return found


def drawn(*strokes, size=SIZE, width=3):
    """The label map of strokes: pairs of points and a class."""
    labels = np.full(size, NOTHING, np.uint8)
    for points, value in strokes:
        draw_polyline(labels, points, value, width)
    return labels


def test_strokes_are_the_polylines_of_the_library_and_are_saved(opened, folder):
    page = opened("00")
    page.keys("0")
    page.stroke([(5, 5), (60, 9), (8, 40)])
    page.keys("2")
    page.stroke([(70, 60)])
    page.stroke([(50, 30), (52, 50)])
    page.wait_saved()
    expected = drawn(([(5, 5), (60, 9), (8, 40)], 0), ([(70, 60)], 2), ([(50, 30), (52, 50)], 2))
    np.testing.assert_array_equal(page.labels(), expected)
    page.wait(lambda: np.array_equal(stored(folder, "00"), expected), "the file")
    (entry,) = [entry for entry in read_list(folder / LIST, str(folder)) if entry.image.endswith("/00.png")]
    np.testing.assert_array_equal(read_label(entry.label), expected)


def test_keys_choose_classes_width_and_eraser(opened):
    page = opened("01")

    def pressed():
        return page.run("return document.querySelector('#brushes [aria-pressed=true]').dataset.label")

    for key in "0120":
        page.keys(key)
        assert pressed() == key
    page.keys("9")  # there is no such class
    assert pressed() == "0"
    page.keys("]", "]", "[")
    assert page.text("width_text") == "5 px"
    page.stroke([(10, 10), (80, 10)])
    page.keys("e")
    assert pressed() == str(NOTHING)
    page.stroke([(40, 5), (40, 20)])
    page.keys("1")
    page.stroke([(60, 5), (60, 20)], button=2)  # the right button erases as well
    expected = drawn(([(10, 10), (80, 10)], 0), ([(40, 5), (40, 20)], NOTHING), ([(60, 5), (60, 20)], NOTHING), width=5)
    np.testing.assert_array_equal(page.labels(), expected)


def test_undo_and_redo(opened, folder):
    page = opened("02")
    page.keys("1")
    strokes = [([(10, 10), (50, 10)], 1), ([(10, 20), (50, 30)], 1), ([(10, 8), (50, 40)], 1)]
    for points, _ in strokes:
        page.stroke(points)
    maps = [drawn(*strokes[:count]) for count in range(4)]
    for count in (2, 1, 0, 0):
        page.keys("z")
        np.testing.assert_array_equal(page.labels(), maps[count])
    assert page.element("redo").is_enabled() and not page.element("undo").is_enabled()
    page.element("redo").click()
    page.keys("y")
    np.testing.assert_array_equal(page.labels(), maps[2])
    page.wait(lambda: np.array_equal(stored(folder, "02"), maps[2]), "the file")
    page.stroke(strokes[2][0])
    assert not page.element("redo").is_enabled()
    page.keys("n")
    page.wait(lambda: page.text("name") == "03", "the next photograph")
    page.wait_open()
    page.keys("p")
    page.wait(lambda: page.text("name") == "02", "the photograph")
    page.wait_open()
    np.testing.assert_array_equal(page.labels(), maps[3])
    page.keys("z")  # steps are kept
    np.testing.assert_array_equal(page.labels(), maps[2])


def test_what_was_drawn_is_there_after_a_reload(opened, folder):
    page = opened("03")
    page.keys("2")
    page.stroke([(20, 20), (40, 60)])
    page.wait_saved()
    page.driver.refresh()
    page.wait_open()
    assert page.text("name") == "03"
    np.testing.assert_array_equal(page.labels(), drawn(([(20, 20), (40, 60)], 2)))
    assert "✓" in page.run("return document.querySelector('#list [aria-current]').textContent")


def test_undo_and_redo_survive_a_reload(opened, folder):
    """Those of several photographs, as long as the labels are those that the steps lead to."""
    page = opened("03")
    saved = page.labels()
    page.keys("1")
    strokes = [([(5, 5), (50, 9)], 1), ([(50, 30), (20, 32)], 1), ([(70, 60)], 1)]
    maps = [saved.copy() for _ in range(4)]
    for count, stroke in enumerate(strokes, 1):
        page.stroke(stroke[0])
        for later in maps[count:]:
            draw_polyline(later, *stroke, 3)
    page.keys("z")
    page.keys("p")
    page.wait(lambda: page.text("name") == "02", "the other photograph")
    page.wait_open()
    other = page.labels()
    page.stroke([(60, 60), (80, 64)])
    page.wait_saved()

    def reload():
        page.driver.refresh()
        page.wait_open()

    reload()
    assert page.element("undo").is_enabled() and page.text("name") == "02"
    page.keys("z")
    np.testing.assert_array_equal(page.labels(), other)
    page.wait_saved()
    reload()
    page.keys("n")
    page.wait(lambda: page.text("name") == "03", "the first photograph")
    page.wait_open()
    np.testing.assert_array_equal(page.labels(), maps[2])
    page.keys("y")
    np.testing.assert_array_equal(page.labels(), maps[3])
    assert not page.element("redo").is_enabled()
    page.wait_saved()
    reload()
    for count in (2, 1, 0):
        page.keys("z")
        np.testing.assert_array_equal(page.labels(), maps[count])
    page.keys("y", "y")
    page.wait_saved()
    page.wait(lambda: np.array_equal(stored(folder, "03"), maps[2]), "the file")
    changed = maps[2].copy()
    changed[70, 90] = 2
    Image.fromarray(changed).save(folder / LABELS / "03.png")  # another program
    reload()
    np.testing.assert_array_equal(page.labels(), changed)
    assert not page.element("undo").is_enabled() and not page.element("redo").is_enabled()


def test_steps_are_packed_and_unpacked(opened):
    """Random strokes and steps of label maps, in the browser: the map that is unpacked goes the same ways."""
    page = opened("01")
    script = """
        const done = arguments[arguments.length - 1];
        import(new URL('label_map.js', location.href)).then(({LabelMap}) => {
          const random = (most) => Math.floor(Math.random() * most);
          const same = (one, other) => one.values.every((value, place) => value === other.values[place]);
          let problem = '';
          for (let round = 0; round < 60 && !problem; round++) {
            const map = new LabelMap(20, 15, new Uint8Array(300).fill(255));
            const place = () => [random(24) - 2, random(19) - 2];
            for (let step = 0; step < 12; step++) {
              map.begin();
              map.line(place(), place(), 1 + random(3), [0, 1, 2, 255][random(4)]);
              map.end();
              if (random(3) === 0) map[['undo', 'redo'][random(2)]]();
            }
            const other = new LabelMap(20, 15, map.values.slice());
            if (!other.unpackSteps(map.packSteps(1e6) || JSON.stringify({fingerprint: map.fingerprint(), done: [],
              undone: []}))) problem = 'refused';
            const little = map.packSteps(200);
            if (little.length > 200) problem = 'too long';
            for (let step = 0; step < 30; step++) {
              const way = ['undo', 'redo'][random(2)];
              map[way]();
              other[way]();
              if (!same(map, other)) problem = 'differs';
            }
            const text = map.packSteps(1e6);
            other.values[random(300)] ^= 1;
            if (text && other.unpackSteps(text)) problem = 'taken for another map';
          }
          done(problem);
        }, (error) => done(String(error)));"""
    assert page.driver.execute_async_script(script) == ""


def test_a_page_that_is_left_in_the_middle_of_a_stroke_has_saved_it(opened, folder):
    page = opened("04")
    page.keys("1")
    page.stroke([(10, 10), (50, 10)], hold=True)
    page.driver.get("about:blank")
    page.wait(lambda: np.array_equal(stored(folder, "04"), drawn(([(10, 10), (50, 10)], 1))), "the file", 10)


@pytest.mark.parametrize("choice", ["densecrf", "normalized_cut"])
def test_the_preview_is_what_the_function_makes_of_the_strokes(opened, folder, choice):
    from selenium.webdriver.support.ui import Select

    page = opened("05")
    Select(page.element("choice")).select_by_value(choice)
    page.keys("0")
    page.stroke([(4, 4), (90, 6)])
    page.keys("1")
    page.stroke([(40, 36), (56, 38)])
    page.wait_full()
    labels = page.labels()
    pixels = read_image(str(folder / "JPEGImages" / "05.png"))[:, :, ::-1]
    settings = {
        "num_classes": len(CLASSES), "loss": CHOICES[choice].loss, "push": 0.6,
        "options": {"bi_xy_std": 30.0, "bi_rgb_std": 15.0, **CHOICES[choice].options},
    }  # fmt: skip
    coarse = segment_from_scribbles(pixels, labels, scale=coarse_scale(SIZE), **settings)
    expected = segment_from_scribbles(pixels, labels, scores=coarse, **settings).labels
    assert len(np.unique(expected)) == 2
    np.testing.assert_array_equal(page.result(), expected)
    page.keys("g")
    page.wait(lambda: "Gradient of cat" in page.text("numbers"), "the gradient", COMPILED)
    assert page.run("return window.drawing.state.result.more.some((value) => value !== 0)")


def test_a_push_decides_whether_a_stroke_is_overruled(opened, folder):
    """The slider's whole range: by hand, to both ends. A stroke of the background lies where it does not belong."""
    page = opened("12")
    page.keys("0")
    page.stroke([(4, 4), (90, 6), (90, 66), (4, 66)])
    page.keys("1")
    page.stroke([(40, 28), (56, 30), (40, 44), (56, 46)])
    page.keys("0")
    page.stroke([(48, 37)])
    labels = page.labels()
    is_wrong = np.zeros(SIZE, bool)
    is_wrong[36:39, 47:50] = labels[36:39, 47:50] == 0
    slider = page.element("push")

    def result(key, told):
        """After keys on the slider."""
        slider.send_keys(key)
        page.wait(lambda: page.text("push_text") == told, "the number")
        script = "return window.drawing.state.result.push"
        page.wait(lambda: page.run(script) == pytest.approx(float(told), rel=0.05), "the preview", COMPILED)
        page.wait_full()
        return page.result()

    page.wait_full()
    start, stop = result(HOME, "0"), result(END, "100")
    weak, usual = result(HOME + RIGHT, "0.11"), result(HOME + 26 * RIGHT, "0.6")
    at_strokes = (labels != NOTHING) & ~is_wrong
    for each in (weak, usual, stop):
        np.testing.assert_array_equal(each[at_strokes], labels[at_strokes])
    assert (weak[is_wrong] == 0).all() and (usual[is_wrong] == 0).all() and (stop[is_wrong] == 1).all()
    assert (weak != usual)[labels == NOTHING].mean() < 0.02
    assert (start != usual).mean() > (weak != usual).mean()
    assert slider.get_attribute("aria-describedby") == "push_meaning" and "overrule" in page.text("push_meaning")


def colours(page, canvas, points):
    """What the canvas shows at pixels of the photograph."""
    found = page.run(
        """const canvas = document.getElementById(arguments[0]);
        const [view, room] = [window.drawing.view, canvas.getBoundingClientRect()];
        const ratio = canvas.width / room.width;
        return arguments[1].map(([x, y]) => Array.from(canvas.getContext('2d').getImageData(
          Math.floor((room.width / 2 + (x + 0.5 - view.x) * view.scale) * ratio),
          Math.floor((room.height / 2 + (y + 0.5 - view.y) * view.scale) * ratio), 1, 1).data.slice(0, 3)))""",
        canvas, points,
    )  # fmt: skip
    return [tuple(each) for each in found]


def test_a_palette_changes_what_is_seen_and_not_what_is_saved(opened, folder):
    from selenium.webdriver.support.ui import Select

    page = opened("06")
    for key, row in (("0", 10), ("1", 30), ("2", 50)):
        page.keys(key)
        page.stroke([(10, row), (80, row)])
    page.wait_full()
    page.run("const it = document.getElementById('opacity'); it.value = 100; it.dispatchEvent(new Event('input'))")
    places = [(40, 10), (40, 30), (40, 50)]
    voc = [tuple(colour) for colour in voc_palette()[:3].tolist()]
    page.wait(lambda: colours(page, "strokes", places) == voc, "VOC's colours")
    page.wait(lambda: colours(page, "result", places) == voc, "VOC's colours in the result")
    Select(page.element("palette")).select_by_value("safe")
    page.wait(lambda: colours(page, "strokes", places) == [(0, 0, 0), (230, 159, 0), (86, 180, 233)], "Okabe and Ito's")
    page.wait_saved()
    np.testing.assert_array_equal(np.unique(stored(folder, "06")), [0, 1, 2, NOTHING])


def test_photographs_are_gone_through_by_key_and_counted(opened):
    page = opened("07")
    count = int(page.text("progress").split()[0])
    assert page.text("progress").endswith(" of 18 drawn")
    page.keys("1")
    page.stroke([(10, 10), (50, 10)])
    page.wait(lambda: page.text("progress") == f"{count + 1} of 18 drawn", "the count")
    page.keys("z")
    page.wait(lambda: page.text("progress") == f"{count} of 18 drawn", "the count after undo")
    page.keys("y")
    page.element("only_open").click()
    done = page.run("return window.drawing.state.done")
    nearest = done.index(False, 8)
    page.keys("n")
    name = page.run("return window.drawing.state.folder.photos[arguments[0]]", nearest)
    page.wait(lambda: page.text("name") == name, "the nearest one without strokes")
    page.wait_open()
    page.element("only_open").click()


def test_two_tabs_on_one_photograph(opened, address, folder):
    page = opened("08")
    first = page.driver.current_window_handle
    number = page.driver.current_url.split("#")[1]
    page.driver.switch_to.new_window("tab")
    try:
        other = Page(page.driver, f"{address}#{number}")
        other.keys("2")
        other.stroke([(10, 10), (50, 10)])
        other.wait_saved()
        second = page.driver.current_window_handle
        page.driver.switch_to.window(first)  # it looks again, as it gets the focus
        page.run("window.dispatchEvent(new Event('focus'))")
        theirs = drawn(([(10, 10), (50, 10)], 2))
        page.wait(lambda: "changed elsewhere" in page.text("remark"), "the remark")
        np.testing.assert_array_equal(page.labels(), theirs)
        page.keys("1")
        page.stroke([(10, 20), (50, 20)])
        page.wait_saved()
        mine = drawn(([(10, 10), (50, 10)], 2), ([(10, 20), (50, 20)], 1))
        page.driver.switch_to.window(second)
        page.run("window.dispatchEvent(new Event('focus'))")
        other.wait(lambda: np.array_equal(other.labels(), mine), "what the first tab has saved")
        assert "changed elsewhere" in other.text("remark")
        np.testing.assert_array_equal(stored(folder, "08"), mine)
    finally:
        page.driver.close()
        page.driver.switch_to.window(first)


def test_a_stale_save_is_told_and_may_be_kept(opened, folder):
    page = opened("09")
    page.keys("1")
    page.stroke([(10, 10), (50, 10)])
    page.wait_saved()
    path = folder / LABELS / "09.png"
    other = drawn(([(5, 60), (90, 60)], 2))
    Image.fromarray(other).save(path)  # another program
    page.stroke([(10, 20), (50, 20)])
    page.wait(lambda: page.is_shown("notice"), "the notice")
    assert "changed elsewhere" in page.text("notice_text") and page.text("saved") == "Not saved"
    np.testing.assert_array_equal(read_label(path), other)
    page.run("[...document.querySelectorAll('#notice_buttons button')][1].click()")
    mine = drawn(([(10, 10), (50, 10)], 1), ([(10, 20), (50, 20)], 1))
    page.wait(lambda: np.array_equal(read_label(path), mine), "my strokes")
    page.wait(lambda: not page.is_shown("notice"), "the notice to go")


def test_bad_photographs_are_told_and_the_others_go_on(opened):
    page = opened("21_cut")
    page.wait(lambda: page.is_shown("trouble"), "the message")
    assert "21_cut.png" in page.text("trouble") and "\n" not in page.text("trouble")
    page.keys("1", "z", "g", "f", "g", "g")  # nothing to draw on
    page.keys("n")
    page.wait(lambda: page.text("name").startswith("22"), "the next one")
    page.wait_open()
    assert not page.is_shown("trouble")


def test_a_name_is_never_markup(opened):
    page = opened("22 <img src=x onerror=alert(1)>")
    assert page.run("return document.images.length") == 0
    assert page.text("name") == "22 <img src=x onerror=alert(1)>"
    from selenium.common.exceptions import NoAlertPresentException

    with pytest.raises(NoAlertPresentException):
        page.driver.switch_to.alert  # noqa: B018


@pytest.mark.parametrize("name", ["23_cmyk", "24_16bit"])
def test_other_kinds_of_photographs_are_drawn_on(opened, folder, name):
    page = opened(name)
    page.keys("1")
    page.stroke([(10, 10), (50, 10)])
    page.wait_saved()
    np.testing.assert_array_equal(stored(folder, name), drawn(([(10, 10), (50, 10)], 1)))


def test_a_turned_photograph_is_shown_as_stored_and_told(opened, folder):
    page = opened("20_turned")
    assert "EXIF" in page.text("remark")
    assert page.run("const {photo} = window.drawing.state; return [photo.width, photo.height]") == list(SIZE[::-1])
    pixels = read_image(str(folder / "JPEGImages" / "20_turned.jpg"))[:, :, ::-1]
    for x, y in ((48, 36), (5, 5), (90, 60)):
        (shown,) = colours(page, "strokes", [(x, y)])
        assert np.abs(np.subtract(shown, pixels[y, x].astype(int))).max() < 40
    page.keys("1")
    page.stroke([(10, 60), (80, 60)])
    page.wait_saved()
    np.testing.assert_array_equal(stored(folder, "20_turned"), drawn(([(10, 60), (80, 60)], 1)))


def test_zoom_and_pan_move_the_strokes_with_the_photograph(opened):
    page = opened("10")
    page.keys("1")
    before = page.run("return window.drawing.view.scale")
    page.keys("+", "+", "+", "\ue014", "\ue015")  # arrows
    page.run(
        """const canvas = document.getElementById('strokes'), room = canvas.getBoundingClientRect();
        canvas.dispatchEvent(new WheelEvent('wheel', {deltaY: -200, clientX: room.left + 200, clientY: room.top + 150,
        cancelable: true}))"""
    )
    scale, x, y = page.run("const {view} = window.drawing; return [view.scale, view.x, view.y]")
    assert scale > 2 * before and (x, y) != (SIZE[1] / 2, SIZE[0] / 2)
    points = [(int(x) - 6, int(y) - 4), (int(x) + 8, int(y) + 5)]
    page.stroke(points)
    np.testing.assert_array_equal(page.labels(), drawn((points, 1)))
    page.wait(lambda: colours(page, "strokes", [points[1]]) == [tuple(voc_palette()[1].tolist())], "the stroke")
    page.keys("f")
    assert page.run("return window.drawing.view.scale") == before


def test_pen_finger_and_two_fingers(opened):
    from selenium.webdriver.common.actions.action_builder import ActionBuilder
    from selenium.webdriver.common.actions.pointer_input import PointerInput

    page = opened("11")
    page.keys("1")
    page.stroke([(10, 10), (50, 10)], kind="touch")
    page.stroke([(10, 20), (50, 20)], kind="pen")
    expected = drawn(([(10, 10), (50, 10)], 1), ([(10, 20), (50, 20)], 1))
    np.testing.assert_array_equal(page.labels(), expected)
    scale = page.run("return window.drawing.view.scale")
    builder = ActionBuilder(page.driver, mouse=PointerInput("touch", "one"), duration=30)
    other = builder.add_pointer_input("touch", "two")
    for finger, sign in ((builder.pointer_action, -1), (other, 1)):
        x, y = map(round, page.place(48, 40))
        action = finger if sign < 0 else None
        if action is None:
            other.create_pointer_move(duration=0, x=x + 20, y=y)
            other.create_pointer_down(button=0)
            for step in range(1, 6):
                other.create_pointer_move(duration=30, x=x + 20 + 15 * step, y=y)
            other.create_pointer_up(0)
        else:
            action.move_to_location(x - 20, y)
            action.pointer_down()
            for step in range(1, 6):
                action.move_to_location(x - 20 - 15 * step, y)
            action.pointer_up()
    builder.perform()
    assert page.run("return window.drawing.view.scale") > 1.5 * scale
    np.testing.assert_array_equal(page.labels(), expected)


@pytest.mark.parametrize("width, height", [(390, 844), (820, 1180), (1180, 820), (1366, 600)])
def test_phone_tablet_and_laptop_have_room_for_the_photograph(opened, width, height):
    page = opened("01")
    metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": True}
    page.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    try:
        page.driver.refresh()
        page.wait_open()
        wide, rooms = page.run(
            """const wide = [document.documentElement, document.getElementById('work')]
              .filter((each) => each.scrollWidth > each.clientWidth).length;
            return [wide, ['strokes', 'result'].map((name) => {
              const room = document.getElementById(name).getBoundingClientRect();
              return Math.min(room.width, room.height);
            })]"""
        )
        assert not wide and min(rooms) > 180
        before = page.labels().copy()
        page.element("brushes").find_elements("tag name", "button")[2].click()
        points = [(20, 60), (70, 62)]
        page.stroke(points, kind="touch")
        draw_polyline(before, points, 2, 3)
        np.testing.assert_array_equal(page.labels(), before)
        assert page.run("return document.getElementById('work').scrollTop") == 0
    finally:
        page.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_everything_that_can_be_focused_has_a_name(opened):
    page = opened("01")
    nodes = page.driver.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
    nameless, count = [], 0
    for node in nodes:
        properties = {each["name"]: each["value"].get("value") for each in node.get("properties", [])}
        if properties.get("focusable") and node["role"]["value"] != "RootWebArea":
            count += 1
            if not node.get("name", {}).get("value"):
                nameless.append(node)
    assert count > 25 and not nameless
    assert page.run("return document.documentElement.lang") == "en"


def test_nothing_is_asked_of_others(opened, address):
    page = opened("01")
    asked = page.run("return performance.getEntries().map((each) => each.name).filter((name) => name.includes('://'))")
    assert len(asked) > 5
    assert all(name.startswith((address, "blob:")) for name in asked)


def test_a_wrong_token_is_told(driver, address):
    driver.get(address[:-2] + "/")
    assert "token" in driver.page_source
    Page(driver).problems()


def test_a_photograph_of_24_megapixels(driver, tmp_path):
    root = tmp_path / "large"
    (root / "JPEGImages").mkdir(parents=True)
    size = LARGE
    Image.fromarray(photograph(1)).resize(size[::-1]).save(root / "JPEGImages" / "a.jpg")
    with serving(root, CLASSES) as (_, address):
        page = Page(driver, address)
        page.keys("1")
        strokes = [([(100, 200), (5000, 2400)], 1), ([(3000, 3900), (3100, 3950)], 1)]
        for points, _ in strokes:
            page.stroke(points)
        places = page.run("return window.drawing.state.map.done.map((step) => step.box)")
        assert [box[2] > 4000 for box in places] == [True, False]
        page.wait_saved()
        labels = stored(root, "a")
        assert labels.shape == size and set(np.unique(labels)) == {1, NOTHING}
        script = "return window.drawing.state.map.values.reduce((sum, value) => sum + (value === 1), 0)"
        assert (labels == 1).sum() == page.run(script) > 10_000


def test_scribbles_in_xml_are_loaded(driver, tmp_path):
    root = tmp_path / "sup"
    (root / "JPEGImages").mkdir(parents=True)
    Image.fromarray(photograph(1)).save(root / "JPEGImages" / "a.png")
    (root / LABELS).mkdir()
    points = "".join(f"<point><X>{x}</X><Y>40</Y></point>" for x in (10, 50, 80))
    (root / LABELS / "a.xml").write_text(
        f"<annotation><size><width>{SIZE[1]}</width><height>{SIZE[0]}</height><depth>3</depth></size>"
        f"<polygon><tag>cat</tag>{points}</polygon></annotation>"
    )
    with serving(root, CLASSES) as (_, address):
        page = Page(driver, address)
        np.testing.assert_array_equal(page.labels(), drawn(([(10, 40), (80, 40)], 1)))
        page.wait(lambda: page.text("under_pointer") == "", "no pointer")


def test_ten_thousand_photographs(driver, tmp_path):
    photos = tmp_path / "many" / "JPEGImages"
    photos.mkdir(parents=True)
    Image.fromarray(photograph(1)).save(photos / "00000.png")
    for number in range(1, 10_000):
        os.link(photos / "00000.png", photos / f"{number:05}.png")
    with serving(tmp_path / "many", CLASSES) as (_, address):
        page = Page(driver, f"{address}#9998")
        assert (page.text("name"), page.text("progress")) == ("09997", "0 of 10000 drawn")
        page.keys("1")
        page.stroke([(10, 10), (50, 10)])
        page.wait(lambda: page.text("progress") == "1 of 10000 drawn", "the count")
        page.keys("n", "n", "n")
        page.wait(lambda: page.text("name") == "09999", "the last photograph")
        page.wait_open()
        lines = (tmp_path / "many" / LIST).read_text().splitlines()
        assert lines == [f"JPEGImages/09997.png {LABELS}/09997.png"]


@pytest.mark.parametrize("size", [SIZE, LARGE], ids=["small", "large"])
def test_a_browser_that_is_killed_has_saved_what_is_older_than_two_seconds(tmp_path, size):
    root = tmp_path / "mine"
    (root / "JPEGImages").mkdir(parents=True)
    Image.fromarray(photograph(1)).resize(size[::-1]).save(root / "JPEGImages" / "a.jpg")
    with serving(root, CLASSES) as (_, address), chromium() as driver:
        page = Page(driver, address)
        page.keys("1")
        page.stroke([(5, 5), (size[1] - 16, 5)], hold=True)
        drawn_at = time.monotonic()
        expected = page.labels()
        assert (expected == 1).sum() > size[1]
        time.sleep(max(0, drawn_at + 2 - time.monotonic()))
        os.kill(driver.service.process.pid, signal.SIGSTOP)  # it shall not close the browser in good order
        try:
            for pid in descendants(driver.service.process.pid):
                os.kill(pid, signal.SIGKILL)
        finally:
            os.kill(driver.service.process.pid, signal.SIGCONT)
        np.testing.assert_array_equal(stored(root, "a"), expected)


def test_a_server_that_is_killed_has_saved_24_megapixels_that_are_older_than_two_seconds(driver, tmp_path):
    """Strokes of every size, one after the other; before the first preview's kernels are there, and after."""
    root = tmp_path / "large"
    (root / "JPEGImages").mkdir(parents=True)
    Image.fromarray(photograph(1)).resize(LARGE[::-1]).save(root / "JPEGImages" / "a.jpg")
    height, width = LARGE
    for points in ([(100, 200), (width - 900, height - 600)], [(90, height - 90), (width - 90, 90), (300, 250)]):
        with serving(root, CLASSES) as (process, address):
            page = Page(driver, address)
            page.keys("]", "]", "2")
            page.stroke([(width // 2, 99)])
            page.keys("0")
            page.stroke(points)
            drawn_at = time.monotonic()
            expected = page.labels()
            time.sleep(max(0, drawn_at + 2 - time.monotonic()))
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
            assert (expected == 0).sum() > 10_000
            np.testing.assert_array_equal(stored(root, "a"), expected)
            driver.execute_script("window.drawing.state.map = null")  # so that leaving asks nothing
            driver.get("about:blank")
    page.problems()  # that the server does not answer


def test_killed_while_a_stroke_is_drawn(driver, folder, tmp_path):
    """What is older than two seconds is on the disk, in a whole file, and the page says that it cannot save."""
    root = tmp_path / "killed"
    (root / "JPEGImages").mkdir(parents=True)
    Image.fromarray(photograph(1)).save(root / "JPEGImages" / "a.png")
    with serving(root, CLASSES) as (process, address):
        page = Page(driver, address)
        page.keys("1")
        page.stroke([(5, 5), (6, 5)], hold=True)
        seen = [(time.monotonic(), 6)]
        from selenium.webdriver.common.actions.action_builder import ActionBuilder
        from selenium.webdriver.common.actions.pointer_input import PointerInput

        def go_on():
            x = seen[-1][1] + 1
            builder = ActionBuilder(driver, mouse=PointerInput("mouse", "mouse"), duration=0)
            builder.pointer_action.move_to_location(*map(round, page.place(x, 5)))
            builder.perform()
            seen.append((time.monotonic(), x))

        started = time.monotonic()
        while time.monotonic() - started < 5 and seen[-1][1] < 80:
            go_on()
            time.sleep(0.04)
        os.kill(process.pid, signal.SIGKILL)
        killed = time.monotonic()
        process.wait()
        found = stored(root, "a")
        old = max(x for when, x in seen if killed - when > 2)
        assert old > 10 and (found[5, 5 : old + 1] == 1).all()
        assert set(np.unique(found)) == {1, NOTHING}
        go_on()  # all of the stroke may have been saved just in time
        page.wait(lambda: "Not saved" in page.text("saved"), "the message")
        driver.execute_script("window.drawing.state.map = null")  # so that leaving asks nothing
    page.problems()  # that the server does not answer
