"""A folder of photographs and the strokes on them, as `rloss-caffe draw` and `rloss-caffe propagate` share it.

    FOLDER/JPEGImages/NAME.jpg              the photographs; or FOLDER/NAME.jpg, where there is no JPEGImages
    FOLDER/pascal_2012_scribble/NAME.png    their label maps: as large, class numbers, 255 unlabelled, VOC's palette
    FOLDER/list/train.txt                   a line for each photograph that has a label map, as ImageSegData takes it
    FOLDER/classes.txt                      the names of the classes, one a line, from 0

So it is a data root for `exper/run_pascal_scribble.sh` and `rloss-caffe check`. Photographs are .jpg, .jpeg and .png.
Everything is written whole or not at all.
"""

import os

import numpy as np

from rloss_caffe.data.files import printable, read_lines, replacing, write_text
from rloss_caffe.data.palette import voc_palette
from rloss_caffe.data.reading import read_image, read_label
from rloss_caffe.numerics.arrays import real_array, shown

__all__ = ["IGNORE", "LABELS", "LIST", "PHOTOS", "Folder", "note_in", "save_label_map", "written_classes"]

PHOTOS, LABELS, LIST, CLASSES = "JPEGImages", "pascal_2012_scribble", "list/train.txt", "classes.txt"
XML = "scribble_annotation/pascal_2012"  # of ScribbleSup's archive
ENDINGS = (".jpg", ".jpeg", ".png")
IGNORE = 255
MOST_CLASSES = 255
_LONGEST_NAME = 60  # letters of a class's name
_ORIENTATION = 0x0112  # EXIF
_NOTE = "rloss_caffe"
_PACKING = 1  # of zlib's 9 levels


class Folder:
    """Photographs by name, their label maps, the list, and the names of the classes.

    A name is that of the photograph's file without its ending. Whatever else a caller hands in as a name is refused,
    so that no path leads out of the folder; nor does a symbolic link. Nothing is opened to list the folder.

    Parameters
    ----------
    path : str or path
    classes : sequence of str, optional
        Names of all classes, from 0. Default: those of classes.txt. Classes may be added behind those of the file; it
        is written with the first label map.

    Attributes
    ----------
    path : str
        Without symbolic links.
    classes : list of str
    names : list of str
        Of the photographs, in order.
    problems : list of str
        A line for each file that looks like a photograph and is left out, for people.

    Raises
    ------
    ValueError
        There is no such folder, or no photograph in it; the classes are not said, or do not go with classes.txt.
    """

    def __init__(self, path, classes=None):
        if not os.path.isdir(path):
            raise ValueError(f"there is no folder {printable(path)}")
        self.path = os.path.realpath(path)
        self._photos = os.path.join(self.path, PHOTOS)
        if not os.path.isdir(self._photos):
            self._photos = self.path
        self._labels = os.path.join(self.path, LABELS)
        for folder in (self._photos, self._labels, os.path.dirname(os.path.join(self.path, LIST))):
            self._check_inside(folder)
        self.classes = self._find_classes(classes)
        self.refresh()
        if not self.names:
            more = f"; {self.problems[0]}" if self.problems else ""
            raise ValueError(f"there is no photograph ({', '.join(ENDINGS)}) in {printable(self._photos)}{more}")

    def refresh(self):
        """Look again which photographs and label maps there are."""
        files, problems = {}, []
        with os.scandir(self._photos) as entries:
            for entry in sorted(entries, key=lambda entry: entry.name):
                name, ending = os.path.splitext(entry.name)
                if ending.lower() not in ENDINGS or name.startswith(".") or not entry.is_file():
                    continue
                problem = self._why_left_out(entry, name, files)
                if problem:
                    problems.append(f"{printable(entry.name)} is left out: {problem}")
                else:
                    files[name] = entry.name
        self._files, self.names, self.problems = files, list(files), problems
        self._known = self._find_labels()
        self._done = set(self._known)

    def _find_labels(self):
        """The photographs that have a file as label map."""
        if not os.path.isdir(self._labels):
            return set()
        with os.scandir(self._labels) as entries:
            return {entry.name[:-4] for entry in entries if entry.name.endswith(".png")} & set(self._files)

    def _why_left_out(self, entry, name, files):
        if not name.isprintable() or name != name.strip():
            return "lists cannot hold its name; rename it"
        if name in files:
            return f"{files[name]} has the same name, and both would have one label map"
        if entry.is_symlink() and not self._is_inside(entry.path):
            return "it is a link that leads out of the folder"
        return ""

    def photo_path(self, name):
        """The path of a photograph.

        Raises
        ------
        ValueError
            There is no such photograph in the folder.
        """
        if not isinstance(name, str) or name not in self._files:
            raise ValueError(f"there is no photograph {shown(name)} in the folder")
        path = os.path.join(self._photos, self._files[name])
        self._check_inside(path)
        return path

    def label_path(self, name):
        """Where a photograph's label map is, or will be; errors as of `photo_path`."""
        self.photo_path(name)
        return os.path.join(self._labels, f"{name}.png")

    def photo(self, name):
        """A photograph's pixels as they are stored: array (H, W, 3), uint8, RGB.

        They are those that training reads: 16 bits become 8, an alpha channel is dropped, grey is repeated, CMYK
        converted, and EXIF turns nothing.

        Raises
        ------
        ValueError
            There is no such photograph, or it cannot be read; the message is one line.
        """
        return np.ascontiguousarray(read_image(self.photo_path(name))[:, :, ::-1])

    def size(self, name):
        """Height and width of a photograph as stored, from the beginning of its file; errors as of `photo`."""
        path = self.photo_path(name)
        from PIL import Image

        try:
            with Image.open(path) as image:
                return image.size[::-1]
        except Exception:  # what Pillow cannot read, OpenCV may
            return read_image(path).shape[:2]

    def is_turned(self, name):
        """Whether programs that follow EXIF show the photograph turned or mirrored, unlike its stored pixels."""
        path = self.photo_path(name)
        from PIL import Image

        try:
            with Image.open(path) as image:
                return image.getexif().get(_ORIENTATION, 1) in range(2, 9)
        except Exception:  # damaged EXIF turns nothing, and whether there is a photograph, `photo` says
            return False

    def has_labels(self, name):
        """Whether a photograph has a label map."""
        return name in self._done

    def progress(self):
        """How many photographs have a label map, and how many there are."""
        return len(self._done), len(self.names)

    def version(self, name):
        """A short text that changes whenever the label map's file does; empty where there is none."""
        try:
            found = os.stat(self.label_path(name))
        except OSError:
            return ""
        return f"{found.st_mtime_ns:x}-{found.st_size:x}-{found.st_ino:x}"

    def load_labels(self, name):
        """A photograph's label map: array (H, W), uint8, 255 where nothing is said.

        One of ours, or of VOC's palette or of greys; else made of ScribbleSup's NAME.xml, if that lies beside the
        label maps or in scribble_annotation/pascal_2012, and saved; else empty.

        Raises
        ------
        ValueError
            There is no such photograph; the label map cannot be read, has another size, or a label that is no class.
        """
        path, size = self.label_path(name), self.size(name)
        if not os.path.exists(path):
            labels = self._from_xml(name, size)
            if labels is None:
                self._done.discard(name)
                return np.full(size, IGNORE, np.uint8)
            self.save_labels(name, labels)
            return labels
        self._check_inside(path)
        labels = read_label(path)
        if labels.shape != size:
            raise ValueError(
                f"the label map {printable(path)} has {labels.shape[1]} x {labels.shape[0]} pixels, its photograph "
                f"{size[1]} x {size[0]}"
            )
        self._check_labels(labels, f"the label map {printable(path)}")
        if labels.min() == IGNORE:
            self._known.add(name)
            self._done.discard(name)
        return labels

    def save_labels(self, name, labels):
        """Save a photograph's label map, whole or not at all; an empty one is removed.

        Parameters
        ----------
        name : str
        labels : array_like, shape (H, W)
            Classes, and 255 where nothing is said.

        Raises
        ------
        ValueError
            There is no such photograph; size or values do not fit.
        OSError
            The file cannot be written.
        """
        path = self.label_path(name)
        size = self.size(name)
        if not (type(labels) is np.ndarray and labels.dtype == np.uint8 and labels.shape == size):
            labels = real_array("labels", labels, size)
            if not ((labels == np.floor(labels)) & (labels >= 0) & (labels <= IGNORE)).all():
                raise ValueError(f"labels must be whole numbers from 0 to {IGNORE}")
            labels = labels.astype(np.uint8)
        self._check_labels(labels, "labels")
        if labels.min() == IGNORE:
            if os.path.lexists(path):
                os.unlink(path)
            self._done.discard(name)
            return
        os.makedirs(self._labels, exist_ok=True)
        self._check_inside(self._labels)
        self._write_classes()
        save_label_map(labels, path)
        self._done.add(name)

    def write_list(self):
        """Write list/train.txt, whole or not at all, and return its path.

        It has a line for each photograph with a label map, in order, whoever drew it meanwhile; the lines of an earlier
        list about other files stay. Where no line is left, the list is removed.
        """
        found = self._find_labels()
        self._done |= found - self._known
        self._known = found
        path = os.path.join(self.path, LIST)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        self._check_inside(os.path.dirname(path))
        prefix = f"{PHOTOS}/" if self._photos != self.path else ""
        ours = {name: f"{prefix}{self._files[name]} {LABELS}/{name}.png" for name in self.names}
        lines = [line for name, line in ours.items() if name in self._done and name in found]
        if os.path.isfile(path):
            known = set(ours.values())
            others = [line for line in read_lines(path) if line.strip() and line.lstrip("/") not in known]
            lines = others + lines
        if lines:
            write_text(path, "".join(f"{line}\n" for line in lines))
        elif os.path.lexists(path):
            os.unlink(path)
        return path

    def _from_xml(self, name, size):
        """The label map of a ScribbleSup file with this folder's class numbers, or None where there is no file."""
        from pathlib import Path

        from rloss_caffe.datasets import scribbles, voc

        for folder in (self._labels, os.path.join(self.path, XML)):
            path = os.path.join(folder, f"{name}.xml")
            if os.path.isfile(path):
                break
        else:
            return None
        self._check_inside(path)
        found = scribbles.convert(Path(path))
        if found.shape != size:
            raise ValueError(
                f"{printable(path)} is of {found.shape[1]} x {found.shape[0]} pixels, its photograph {size[1]} x "
                f"{size[0]}"
            )
        numbers = np.full(256, IGNORE, np.uint8)
        for label in np.setdiff1d(found, [IGNORE]):
            if voc.CLASSES[label] not in self.classes:
                raise ValueError(
                    f"{printable(path)} has the class {voc.CLASSES[label]}; the folder has {', '.join(self.classes)}"
                )
            numbers[label] = self.classes.index(voc.CLASSES[label])
        return numbers[found]

    def _check_labels(self, labels, what):
        wrong = labels >= len(self.classes)
        wrong &= labels != IGNORE
        if wrong.any():
            raise ValueError(
                f"{what} must have labels from 0 to {len(self.classes) - 1}, or {IGNORE}; found "
                f"{labels[wrong].min()}: the classes are {', '.join(self.classes)}"
            )

    def _find_classes(self, given):
        path = os.path.join(self.path, CLASSES)
        self._check_inside(path)
        written = written_classes(self.path)
        if given is None:
            if not written:
                raise ValueError(
                    f"the names of the classes must be said the first time, as background,cat,dog: {printable(path)} "
                    "holds none"
                )
            given = written
        given = [str(name).strip() for name in given]
        for name in given:
            if not name or not name.isprintable() or "," in name or len(name) > _LONGEST_NAME:
                raise ValueError(
                    f"a class must have a name of at most {_LONGEST_NAME} letters without commas, found {shown(name)}"
                )
        if not 1 <= len(given) <= MOST_CLASSES or len(set(given)) < len(given):
            raise ValueError(
                f"there must be 1 to {MOST_CLASSES} classes, each with a name of its own, found {', '.join(given):.300}"
            )
        if given[: len(written)] != written:
            raise ValueError(
                f"{printable(path)} has the classes {', '.join(written)}, found {', '.join(given)}: the label maps "
                "would change their meaning; new classes may only be added at the end"
            )
        return given

    def _write_classes(self):
        path = os.path.join(self.path, CLASSES)
        text = "".join(f"{name}\n" for name in self.classes)
        try:
            with open(path, encoding="utf-8") as file:
                if file.read() == text:
                    return
        except (OSError, ValueError):
            pass
        write_text(path, text)

    def _is_inside(self, path):
        real = os.path.realpath(path)
        return real == self.path or real.startswith(self.path.rstrip(os.sep) + os.sep)

    def _check_inside(self, path):
        if not self._is_inside(path):
            raise ValueError(f"{printable(path)} is a link that leads out of the folder {printable(self.path)}")


def written_classes(root):
    """The names of the classes that a folder's classes.txt has; empty where there is none."""
    path = os.path.join(root, CLASSES)
    return [line.strip() for line in read_lines(path) if line.strip()] if os.path.isfile(path) else []


def save_label_map(labels, path, note=""):
    """Write a label map (H, W), uint8, as a PNG with VOC's palette, whole or not at all; `note_in` finds the note.

    It is on the disk when this returns. It is packed in a hurry: 24 megapixels take 0.04 s instead of 0.08 s, for three
    times the bytes.
    """
    from PIL import Image, PngImagePlugin

    picture = Image.fromarray(np.ascontiguousarray(labels, np.uint8))
    picture.putpalette(voc_palette().ravel().tolist())  # makes it one of indices
    more = PngImagePlugin.PngInfo()
    if note:
        more.add_text(_NOTE, note)
    with replacing(path) as temporary, open(temporary, "wb") as file:
        picture.save(file, format="PNG", pnginfo=more, compress_level=_PACKING)
        file.flush()
        os.fsync(file.fileno())


def note_in(path):
    """The note that `save_label_map` has put into a file; empty where there is none."""
    from PIL import Image

    try:
        with Image.open(path) as picture:
            return picture.info.get(_NOTE, "")
    except Exception:  # whatever Pillow says of what is no picture
        return ""
