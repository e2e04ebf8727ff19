"""Label maps on sheets are seen, and sheets say what cannot be drawn."""

import numpy as np
import pytest

from rloss_caffe.datasets import voc
from rloss_caffe.pictures.overlays import draw_labels, draw_scribbles, shrink_scribbles
from rloss_caffe.pictures.sheet import Sheet


def test_scribbles_survive_shrinking():
    photo = np.full((50, 50, 3), 90, np.uint8)
    scribbles = np.full((500, 500), 255, np.uint8)
    scribbles[255, 100:400] = 15  # one pixel of 500, a tenth of a pixel of 50
    picture = draw_scribbles(photo, shrink_scribbles(scribbles, (50, 50)))
    stroke = (picture == voc.palette()[15]).all(axis=2)
    assert stroke[:, 25].nonzero()[0].tolist() == [24, 25, 26]
    assert (picture[[23, 27], 25] == 235).all() and (picture[[22, 28], 25] == 90).all()


def test_dark_classes_have_an_outline():
    label = np.zeros((20, 30), np.uint8)
    label[5:15, 10:20] = 8  # VOC's cat, (64, 0, 0)
    label[18:] = 255
    picture = draw_labels(label)
    assert (picture[10, 10] == 235).all() and (picture[10, 20] == 235).all() and (picture[5, 15] == 235).all()
    assert (picture[10, 15] == (64, 0, 0)).all() and (picture[0, 0] == 0).all()
    assert np.isin(picture[18:], [140, 255]).all() and (picture[17] == 0).all()  # 255 is seen without a line


def test_a_sheet_that_nobody_can_draw():
    pytest.importorskip("matplotlib", minversion="3.7")
    with pytest.raises(ValueError, match="the sheet would be 99999 pixels high, 65000 at most can be drawn"):
        Sheet(1200, 99_999)


def test_texts_are_drawn_as_they_stand():
    pytest.importorskip("matplotlib", minversion="3.7")
    sheet = Sheet(300, 100)
    sheet.write(5, 5, "$x^{ a\nb \\frac", 10)
    sheet.figure.canvas.draw()
    (text,) = sheet.figure.texts
    assert text.get_text() == "\\$x^{ a?b \\frac" and text.get_window_extent().height < 30
