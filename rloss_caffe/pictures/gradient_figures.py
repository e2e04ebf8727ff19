"""Draw gradients of losses: a figure that explains itself, a sheet of bandwidths, and several losses side by side."""

import textwrap
from dataclasses import dataclass
from typing import Optional

import numpy as np

from rloss_caffe.data.reading import import_cv2
from rloss_caffe.losses.gradients import Push, find_loss, push, takes_images
from rloss_caffe.numerics.parameters import parameters_of
from rloss_caffe.pictures.overlays import draw_mask, draw_scribbles, is_scribble, shrink_scribbles
from rloss_caffe.pictures.sheet import LINE, Sheet, plain, shorten

__all__ = [
    "Result",
    "Settings",
    "Trial",
    "draw_comparison",
    "draw_result",
    "draw_sweep",
    "gradient_picture",
    "loss_title",
    "probability_picture",
]

MARGIN, GAP = 16, 14  # pixels of the figure
TALLEST = 0.9  # of a panel: its height by its width; taller pictures become narrower instead
BAR = 11
MOST_ENLARGED = 3  # for edges: further, they are those of the enlarging
MOST_NAMES = 8  # in the label map: more would cover each other
SMALL, PARAGRAPH = 8.8, 6  # explanations: points; pixels between paragraphs
PERCENTILE = 99.5  # of the gradient's size: where the colours end
PROBABILITY_MAP, GRADIENT_MAP = "cividis", "RdBu_r"
EDGE, LIGHT = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
UP_DOWN = "\u25c0 pushes the class up        pushes it down \u25b6"


@dataclass
class Settings:
    """A loss as it was computed.

    Attributes
    ----------
    loss : str
        Its name in `rloss_caffe.losses.LOSSES`.
    parameters : dict
    loss_weight : float
    """

    loss: str
    parameters: dict
    loss_weight: float

    def text(self):
        """The parameters in words: bandwidths, and what is not its default."""
        told = [
            f"{each.name} {parameter_text(self.parameters[each.name])}"
            for each in parameters_of(find_loss(self.loss))
            if each.name in self.parameters
            and (each.name.endswith(("_std", "radius")) or self.parameters[each.name] != each.default)
        ]
        return ", ".join(told) or "all parameters are defaults"


@dataclass
class Result:
    """What is known of an image.

    Attributes
    ----------
    name : str
    photo : array (H, W, 3), uint8 RGB
    label : array (H, W), uint8, or None
        The label map that was given.
    probabilities : array (K, H, W)
    score, probability : array (K, H, W)
        The gradients with respect to scores and probabilities, times the loss weight.
    loss : float
        Without the weight.
    classes : list of str
        All K names.
    settings : Settings
    origin : str
        Where the probabilities are from, for the reader.
    given : array (h, w), uint8, or None
        Labels of the image that the loss and the cross entropy were given.
    push : Push or None
        Of the loss beside the cross entropy, where there are labels.
    """

    name: str
    photo: np.ndarray
    label: Optional[np.ndarray]
    probabilities: np.ndarray
    score: np.ndarray
    probability: np.ndarray
    loss: float
    classes: list
    settings: Settings
    origin: str = ""
    given: Optional[np.ndarray] = None
    push: Optional[Push] = None

    def push_size(self):
        """How hard the loss pushes on the scores, with its weight."""
        return push(self.score)

    def has(self, label):
        """Whether the class is in the label map, or the most probable one of some pixel."""
        found = self.probabilities.argmax(axis=0) if self.label is None else self.label
        return bool((found == label).any())


@dataclass
class Trial:
    """A cell of the sweep.

    Attributes
    ----------
    values : tuple of float
        Of the parameters that are tried: of one, or of two, downwards and to the right.
    loss : float
    gradient : array (H, W)
        Of one class's score.
    seconds : float
        For value and gradient of all classes.
    push : float
        The sum of the sizes of the gradients of all scores.
    share : float or None
        The loss's part of its push and that of the cross entropy, where there are labels.
    """

    values: tuple
    loss: float
    gradient: np.ndarray
    seconds: float
    push: float
    share: Optional[float] = None


def draw_result(result, shown, width=1200):
    """The figure of an image: a matplotlib Figure of `width` pixels, with a row of panels for each class in `shown`.

    Every axes has a label: ``photo``, ``labels``, ``explanation``, and ``probability``, ``score gradient`` and
    ``probability gradient`` with a class's number behind it; the colour bars' is ``bar``.
    """
    side = (width - 2 * MARGIN - 2 * GAP) // 3
    panel_width, panel_height = fit(result.photo, side)
    paragraphs = explain(result, shown, side)
    first_height = max(panel_height, text_height(paragraphs))
    headings = textwrap.wrap(describe(result), int(width / 6.6))
    top = 46 + 17 * len(headings)
    bars = top + 20 + first_height + 26
    rows = bars + 92
    row_height = panel_height + 34
    height = rows + row_height * len(shown)

    sheet = Sheet(width, height)
    sheet.write(MARGIN, 12, title(result, width), 13, weight="bold")
    for index, line in enumerate(headings):
        sheet.write(MARGIN, 38 + 17 * index, line, 9.5, color="0.3")
    lefts = [MARGIN + column * (side + GAP) for column in range(3)]
    insets = [left + (side - panel_width) // 2 for left in lefts]
    size = panel_width, panel_height
    caption, picture = photo_panel(result, size)
    sheet.write(lefts[0] + side / 2, top, caption, 11, "center")
    sheet.show("photo", insets[0], top + 20, size, picture)
    caption, picture, named = label_panel(result, size)
    sheet.write(lefts[1] + side / 2, top, caption, 11, "center")
    axes = sheet.show("labels", insets[1], top + 20, size, picture)
    name_regions(axes, named, result.classes, panel_width)
    explanation = sheet.add("explanation", lefts[2], top + 20, (side, first_height))
    explanation.axis("off")
    sheet.write(lefts[2] + side / 2, top, "how to read this", 11, "center")
    sheet.write_all(lefts[2] + 6, top + 20, paragraphs, SMALL, PARAGRAPH)

    shown_gradients = [result.score[shown], result.probability[shown]]
    limits = [colour_limit(gradient) for gradient in shown_gradients]
    to = "with respect to the" if side > 320 else "w.r.t."
    columns = [
        ("probability", result.probabilities, PROBABILITY_MAP, 0, 1, ""),
        (f"gradient {to} score", result.score, GRADIENT_MAP, -limits[0], limits[0], UP_DOWN),
        (f"gradient {to} probability", result.probability, GRADIENT_MAP, -limits[1], limits[1], UP_DOWN),
    ]
    names = ["probability", "score gradient", "probability gradient"]
    edges = image_edges(scaled(result.photo, size, MOST_ENLARGED))
    for column, (heading, values, colours, low, high, note) in enumerate(columns):
        sheet.write(lefts[column] + side / 2, bars, heading, 11, "center")
        for row, label in enumerate(shown):
            y = rows + row * row_height
            axes = sheet.add(f"{names[column]} {label}", insets[column], y + 20, size)
            shown_image = axes.imshow(values[label], cmap=colours, vmin=low, vmax=high, aspect="auto")
            draw_edges(axes, edges, values[label] < 0.5 if column == 0 else None)
            if column == 0:
                where = "" if result.has(label) else " (in no pixel)"
                sheet.write(MARGIN, y + 1, shorten(result.classes[label], side / 12) + where, 11, weight="bold")
        box = lefts[column] + side // 8, bars + 22, (side - 2 * (side // 8), BAR)  # also above narrow panels
        ticks = [low, 0, high] if column else [0, 0.5, 1]
        sheet.bar(shown_image, *box, ticks, [number(tick) for tick in ticks])
        sheet.write(lefts[column] + side / 2, bars + 60, note, 9, "center", color="0.2")
    return sheet.figure


def draw_sweep(result, label, names, trials, notes, width=1200):
    """The same class under several values of one or two parameters: a matplotlib Figure.

    Parameters
    ----------
    result : Result
    label : int
        The class.
    names : sequence of str
        The parameters: downwards and to the right, or one to the right.
    trials : list of Trial
    notes : str
        How the times were taken.
    width : int

    Returns
    -------
    Figure
        The axes' labels are ``photo``, ``probability`` and ``trial X Y`` of the values, ``bar`` for the colour bars.
    """
    columns = sorted({trial.values[-1] for trial in trials})
    rows = sorted({trial.values[:-1] for trial in trials})
    side = (width - 2 * MARGIN - (len(columns) - 1) * GAP) // len(columns)
    size = fit(result.photo, side)
    reference = fit(result.photo, min(300, side))
    paragraphs = explain_sweep(result, names, notes, width - 2 * MARGIN - 2 * (reference[0] + GAP))
    first_height = max(reference[1], text_height(paragraphs) + 46)
    top = 70
    cells = top + first_height + 22
    row_height = size[1] + 64
    sheet = Sheet(width, cells + row_height * len(rows) + 4)
    name = result.classes[label]
    heading = f": {loss_title(result.settings.loss)}, which {' and '.join(names)}? Score of '{shorten(name, 20)}'"
    sheet.write(MARGIN, 12, shorten(result.name, width / 11.5 - len(heading)) + heading, 13, weight="bold")
    sheet.write(MARGIN, 46, "photo", 10)
    sheet.show("photo", MARGIN, top, reference, result.photo)
    x = MARGIN + reference[0] + GAP
    sheet.write(x, 46, shorten(f"probability of '{name}'", reference[0] / 7), 10)
    axes = sheet.add("probability", x, top, reference)
    axes.imshow(result.probabilities[label], cmap=PROBABILITY_MAP, vmin=0, vmax=1, aspect="auto")
    x += reference[0] + GAP
    sheet.write_all(x + 6, top, paragraphs, SMALL, PARAGRAPH)
    edges = image_edges(scaled(result.photo, size, MOST_ENLARGED))
    shown = None
    for trial in trials:
        column, row = columns.index(trial.values[-1]), rows.index(trial.values[:-1])
        left, y = MARGIN + column * (side + GAP), cells + row * row_height
        limit = colour_limit(trial.gradient)
        cell = " ".join(f"{value:g}" for value in trial.values)
        axes = sheet.add(f"trial {cell}", left + (side - size[0]) // 2, y + 20, size)
        shown = axes.imshow(trial.gradient / limit, cmap=GRADIENT_MAP, vmin=-1, vmax=1, aspect="auto")
        draw_edges(axes, edges)
        heading = ", ".join(f"{name} {value:g}" for name, value in zip(names, trial.values))
        sheet.write(left + side / 2, y + 2, heading, 10 if side > 200 else 8.5, "center", weight="bold")
        pushes = f"push {number(trial.push)}" + ("" if trial.share is None else f", {100 * trial.share:.3g} %")
        below = f"e = {number(limit)},  {pushes}", f"loss {number(trial.loss)},  {1000 * trial.seconds:.3g} ms"
        for index, note in enumerate(below):
            sheet.write(left + side / 2, y + 25 + size[1] + 15 * index, note, 8.5, "center", color="0.2")
    bar_width = min(320, width - x - MARGIN - 20)
    sheet.bar(shown, x + 20, top + text_height(paragraphs) + 6, (bar_width, BAR), [-1, 0, 1], ["\u2212e", "0", "e"])
    return sheet.figure


def draw_comparison(results, shown, width=1200):
    """Several losses at equal push: a matplotlib Figure, a column for each loss, a row for each class in `shown`.

    Parameters
    ----------
    results : list of Result
        Of one image and its probabilities, a loss each, with weights that make their push equal.
    shown : list of int
    width : int

    Returns
    -------
    Figure
        The axes' labels are ``photo``, ``labels``, ``explanation``, ``probability K`` and ``LOSS K`` with a class's
        number behind it, ``bar`` for the colour bars.
    """
    first, count = results[0], len(results) + 1
    third = (width - 2 * MARGIN - 2 * GAP) // 3
    side = (width - 2 * MARGIN - (count - 1) * GAP) // count
    reference, size = fit(first.photo, min(third, 300)), fit(first.photo, side)
    text_width = width - 2 * MARGIN - 2 * (reference[0] + GAP)
    limit = colour_limit(np.stack([result.score[shown] for result in results]))
    paragraphs = explain_comparison(results, shown, limit, text_width)
    top = 46
    headers = [column_header(result, side) for result in results]
    first_height = max(reference[1] + 18, text_height(paragraphs))
    header = top + first_height + 16
    bars = header + max(17 + LINE * len(lines) for _, lines in headers) + 6
    rows, row_height = bars + 62, size[1] + 34
    sheet = Sheet(width, rows + row_height * len(shown))
    heading = f": {len(results)} losses at equal push"
    sheet.write(MARGIN, 12, shorten(first.name, width / 11.5 - len(heading)) + heading, 13, weight="bold")
    x = MARGIN
    caption, picture = photo_panel(first, reference)
    sheet.write(x + reference[0] / 2, top, shorten(caption, reference[0] / 6), 9.5, "center")
    sheet.show("photo", x, top + 18, reference, picture)
    x += reference[0] + GAP
    caption, picture, named = label_panel(first, reference)
    sheet.write(x + reference[0] / 2, top, shorten(caption, reference[0] / 6), 9.5, "center")
    name_regions(sheet.show("labels", x, top + 18, reference, picture), named, first.classes, reference[0])
    x += reference[0] + GAP
    sheet.write_all(x, top, paragraphs, SMALL, PARAGRAPH)

    edges = image_edges(scaled(first.photo, size, MOST_ENLARGED))
    columns = [("probability", [], "probability", first.probabilities, PROBABILITY_MAP, 0, 1)]
    for result, (name, lines) in zip(results, headers):
        columns.append((name, lines, result.settings.loss, result.score, GRADIENT_MAP, -limit, limit))
    for column, (name, lines, axes_name, values, colours, low, high) in enumerate(columns):
        left = MARGIN + column * (side + GAP)
        sheet.write(left + side / 2, header, name, 10.5, "center", weight="bold")
        for index, line in enumerate(lines):
            sheet.write(left + side / 2, header + 18 + LINE * index, line, SMALL, "center", color="0.2")
        for row, label in enumerate(shown):
            y = rows + row * row_height
            axes = sheet.add(f"{axes_name} {label}", left + (side - size[0]) // 2, y + 20, size)
            shown_image = axes.imshow(values[label], cmap=colours, vmin=low, vmax=high, aspect="auto")
            draw_edges(axes, edges, values[label] < 0.5 if column == 0 else None)
            if column == 0:
                where = "" if first.has(label) else " (in no pixel)"
                sheet.write(MARGIN, y + 1, shorten(first.classes[label], side / 12) + where, 11, weight="bold")
        if column < 2:  # one bar for all gradients
            room = side if column == 0 else min(side * (count - 1), 420)
            middle = left + side / 2 if column == 0 else left + (width - MARGIN - left) / 2
            box = middle - 3 * room / 8, bars, (3 * room / 4, BAR)
            ticks = [low, 0, high] if column else [0, 0.5, 1]
            sheet.bar(shown_image, *box, ticks, [number(tick) for tick in ticks])
            sheet.write(middle, bars + 36, UP_DOWN if column else "", 9, "center", color="0.2")
    return sheet.figure


def column_header(result, side):
    """A loss's title and what stands under it: its weight and parameters, lines."""
    settings = result.settings
    weight = f"loss weight {number(settings.loss_weight)}" if settings.loss_weight else "pushes nothing"
    lines = textwrap.wrap(settings.text(), max(int(side / 6.3), 20))
    return loss_title(settings.loss), [weight, *lines, f"loss {number(result.loss)}"]


def explain_comparison(results, shown, limit, width):
    first = results[0]
    height, columns = first.photo.shape[:2]
    rest = len(first.classes) - len(shown)
    image_free = [loss_title(each.settings.loss) for each in results if not takes_images(each.settings.loss)]
    paragraphs = [
        "Gradients with respect to the scores. Training goes against them: red pushes the class down in that pixel, "
        "blue pushes it up.",
        "Equal push: each loss has the weight at which the sizes of its gradient, over all classes and pixels, add up "
        f"to {number(first.push_size())}, as for the first.",
        "All share one scale, symmetric about 0; the colours end at the "
        f"{PERCENTILE}th percentile of all sizes, {number(limit)}.",
        "Lines: strong edges of the photo, where the push should stop."
        + "".join(f" The {name} does not look at it." for name in image_free),
    ]
    if first.push:
        paragraphs.append(describe_push(first.push))
    paragraphs.append(f"{columns} \u00d7 {height} pixels; probabilities: {first.origin}.")
    if rest:
        paragraphs.append(f"Classes not shown: {rest} of {len(first.classes)}.")
    return wrapped(paragraphs, width)


def text_height(paragraphs):
    return sum(LINE * len(lines) + PARAGRAPH for lines in paragraphs)


def fit(photo, side):
    """Width and height of a panel, in pixels, for a photo."""
    height, width = photo.shape[:2]
    scale = min(side / width, TALLEST * side / height)
    return max(1, round(width * scale)), max(1, round(height * scale))


def scaled(photo, size, most=1):
    """A photo at the size of its panel, (width, height) in pixels, but enlarged `most` times at most.

    What is one pixel wide would vanish from a large photo otherwise.
    """
    cv2 = import_cv2()
    factor = min(size[0] / photo.shape[1], most)
    height, width = (max(1, round(length * factor)) for length in photo.shape[:2])
    return cv2.resize(photo, (width, height), interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR)


def colour_limit(gradient):
    """Where the colours end on both sides of zero."""
    size = np.abs(gradient)
    return float(np.percentile(size, PERCENTILE)) or float(size.max()) or 1.0


def number(value):
    """A number of three digits for a label, with a real minus."""
    text = f"{value:.3g}" if value == 0 or 1e-3 <= abs(value) < 999.5 else f"{value:.2e}"
    return text.replace("-", "\u2212")


def loss_title(name):
    """A loss's name for readers: ``"DenseCRF loss"`` of ``"densecrf"``."""
    known = {"densecrf": "DenseCRF loss", "local_potts": "local Potts loss", "size_constraint": "size constraint"}
    return known.get(name, name.replace("_", " ") + " loss")


def parameter_text(value):
    """A parameter's value in words."""
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(parameter_text, value)) + "]" if len(value) else "none"
    if isinstance(value, bool):
        return str(value).lower()
    return "none" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def title(result, width):
    weight = result.settings.loss_weight
    weighted = f" \u00d7 loss weight {weight:g} = {number(weight * result.loss)}"
    loss = f": {loss_title(result.settings.loss)} {number(result.loss)}{weighted}"
    return shorten(result.name, width / 11.5 - len(loss)) + loss


def describe(result):
    height, width = result.photo.shape[:2]
    text = f"{width} \u00d7 {height} pixels; {result.settings.text()}; probabilities: {result.origin}"
    return f"{text}. {describe_push(result.push)}" if result.push else text


def describe_push(found):
    """A sentence on how hard the loss pushes beside the cross entropy."""
    if not found.labelled:
        return "No pixel has a label: there is no cross entropy to compare with."
    return (
        f"Of the push on the scores {100 * found.share:.3g} % is the loss's, the rest that of the cross entropy of the "
        f"{found.labelled} labelled pixels ({number(found.loss)} and {number(found.cross_entropy)})."
    )


def explain(result, shown, side):
    """How to read the figure: paragraphs, lists of lines."""
    biggest = [np.abs(gradient[shown]).max() for gradient in (result.score, result.probability)]
    rest = len(result.classes) - len(shown)
    if result.probability.max() <= 0:
        probability = "never above 0, as agreeing with similar pixels is always rewarded. What counts is which class is"
        probability += " bluest."
    else:
        probability = "what the loss itself asks for. What counts is the difference between the classes of a pixel."
    paragraphs = [
        "Training goes against the gradient. Red (above 0) pushes the class down in that pixel, blue (below 0) "
        "pushes it up, white leaves it alone.",
        edges_text(result.settings.loss),
        "Score: what the network receives. Over all classes it adds up to 0 in every pixel; it fades where the "
        "softmax is sure.",
        f"Probability: {probability}",
        "Gradients include the loss weight. A column has one scale for all rows, symmetric about 0. Its colours end at "
        f"the {PERCENTILE}th percentile of the sizes; the largest are {number(biggest[0])} and {number(biggest[1])}.",
    ]
    if rest:
        paragraphs.append(f"Classes not shown: {rest} of {len(result.classes)}.")
    return wrapped(paragraphs, side)


def edges_text(loss):
    """What the lines over the gradients are."""
    if takes_images(loss):
        return "Lines: strong edges of the photo, where the push should stop."
    return "Lines: strong edges of the photo. This loss does not look at it."


def wrapped(paragraphs, width):
    return [textwrap.wrap(paragraph, max(int(width / 6.3), 20)) for paragraph in paragraphs]


def explain_sweep(result, names, notes, width):
    height, columns = result.photo.shape[:2]
    paragraphs = [
        f"Red pushes the class down in that pixel, blue pushes it up. {edges_text(result.settings.loss)}",
        " ".join(larger(result.settings.loss, name) for name in names),
        "Each picture has its own scale, from \u2212e to e. Where the push, the sum of all sizes, is ten times larger, "
        f"choose a loss weight ten times smaller. Here it is {result.settings.loss_weight:g}."
        + ("" if result.push is None else " Percent: the loss's part, the rest is the cross entropy's."),
        f"Milliseconds: value and gradient of all {len(result.classes)} classes, {columns} \u00d7 {height} pixels, "
        f"{notes}.",
        f"Probabilities: {result.origin}.",
    ]
    return wrapped(paragraphs, width)


def larger(loss, name):
    """What a larger value of a parameter does."""
    if name.endswith("xy_std"):
        return f"Larger {name} (pixels): pixels further away count as neighbours."
    if name.endswith("rgb_std"):
        return f"Larger {name} (units of the image, 0 to 255): less similar ones do, until edges no longer hold."
    (found,) = (each for each in parameters_of(find_loss(loss)) if each.name == name)
    return f"{name}: {found.doc}"


def photo_panel(result, size):
    """Title and picture of the first panel: the photo, with the scribbles on it that it was given."""
    if result.given is None or result.label is not None or not is_scribble(result.given):
        return "photo", result.photo
    photo = scaled(result.photo, size)
    return "photo and the labels given", draw_scribbles(photo, shrink_scribbles(result.given, photo.shape[:2]))


def label_panel(result, size):
    """Title, picture and label map of the second panel, at its size if the photo is larger."""
    photo = scaled(result.photo, size)
    if result.label is not None and is_scribble(result.label):
        label = shrink_scribbles(result.label, photo.shape[:2])
        return "the labels given", draw_scribbles(photo, label), label
    cv2 = import_cv2()
    label = result.probabilities.argmax(axis=0).astype(np.uint8) if result.label is None else result.label
    label = cv2.resize(label, photo.shape[1::-1], interpolation=cv2.INTER_NEAREST)
    title = "class of highest probability" if result.label is None else "the labels given"
    return title, draw_mask(photo, label), label


def name_regions(axes, label, classes, panel_width):
    """Write the largest classes' names into their widest regions, so that nobody depends on the colours."""
    from matplotlib.patheffects import withStroke

    cv2 = import_cv2()
    height, width = label.shape
    areas = np.bincount(label[label < len(classes)], minlength=1)
    for k in sorted(np.flatnonzero(areas), key=lambda k: -areas[k])[:MOST_NAMES]:
        inside = cv2.distanceTransform(np.pad((label == k).astype(np.uint8), 1), cv2.DIST_L2, 3)[1:-1, 1:-1]
        y, x = np.unravel_index(inside.argmax(), inside.shape)
        name = classes[k]
        half = min(0.5, 5 * len(name) / panel_width) * width  # keeps names inside the panel
        x, y = min(max(x, half), width - half), min(max(y, 0.05 * height), 0.95 * height)
        effects = [withStroke(linewidth=2.5, foreground="black")]
        axes.text(x, y, plain(name), size=9, ha="center", va="center", color="white", path_effects=effects)


def image_edges(photo):
    """Where the photo has strong edges, without short bits: array (H, W), bool."""
    cv2 = import_cv2()
    smooth = cv2.GaussianBlur(photo, (0, 0), max(1.0, max(photo.shape[:2]) / 250))
    slopes = [cv2.Sobel(smooth, cv2.CV_16S, *order) for order in ((1, 0), (0, 1))]
    # of the channel with the largest step
    pick = (np.abs(slopes[0]).astype(int) + np.abs(slopes[1])).argmax(axis=2)[..., np.newaxis]
    slopes = [np.take_along_axis(slope, pick, axis=2)[..., 0] for slope in slopes]
    size = np.hypot(slopes[0].astype(float), slopes[1])
    high = max(np.percentile(size, 93), 40)
    edges = cv2.Canny(*slopes, 0.5 * high, high, L2gradient=True)
    _, parts, statistics, _ = cv2.connectedComponentsWithStats(edges, connectivity=8)
    extent = statistics[:, [cv2.CC_STAT_WIDTH, cv2.CC_STAT_HEIGHT]].max(axis=1)
    long = extent >= max(photo.shape[:2]) / 12
    long[0] = False
    return long[parts]


def draw_edges(axes, edges, light=None):
    """Lay the edges over a panel's picture of any size, black, or white where `light`."""
    if light is not None:
        cv2 = import_cv2()
        light = cv2.resize(light.astype(np.uint8), edges.shape[::-1], interpolation=cv2.INTER_NEAREST) > 0
    overlay = np.zeros((*edges.shape, 4), np.float32)
    overlay[..., :3] = EDGE if light is None else np.where(light[..., np.newaxis], LIGHT, EDGE)
    overlay[..., 3] = 0.55 * edges
    axes.imshow(overlay, extent=axes.images[0].get_extent(), aspect="auto", interpolation="nearest")


def probability_picture(probability):
    """A probability as a grey picture: 0 black, 1 white."""
    return np.round(np.clip(probability, 0, 1) * 255).astype(np.uint8)


def gradient_picture(gradient, limit):
    """A gradient in the figure's colours: array (H, W, 3), uint8."""
    from matplotlib import colormaps

    colours = colormaps[GRADIENT_MAP](0.5 + 0.5 * np.clip(gradient / limit, -1, 1), bytes=True)
    return colours[..., :3]
