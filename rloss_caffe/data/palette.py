"""PASCAL VOC's palette, and what the colours of a palette image say about its classes."""

import numpy as np

__all__ = ["palette_values", "voc_palette"]

_N_CLASSES = 21


def voc_palette():
    """The colours of the labels 0 to 255, as in VOC's own label images: array (256, 3), uint8 RGB.

    The bits of a label are dealt out to red, green and blue in turn, highest bit of the colour first, so that labels
    close together get colours far apart (VOC 2012 development kit).
    """
    labels = np.arange(256, dtype=np.uint8)
    colours = np.zeros((256, 3), np.uint8)
    for bit in range(8):
        channel, place = bit % 3, 7 - bit // 3
        colours[:, channel] |= (labels >> bit & 1) << place
    return colours


def palette_values(palette, used):
    """The label that each index of a palette image means.

    Parameters
    ----------
    palette : integer array (n, 3), n <= 256
        RGB.
    used : integer array
        The indices that occur in the image, in rising order.

    Returns
    -------
    array (256,), uint8
        Right at the indices in `used`.

    Raises
    ------
    ValueError
        The palette is neither grey nor VOC's; the text goes on after the file's name.
    """
    palette, used = np.asarray(palette, int), np.asarray(used, int)
    voc = voc_palette().astype(int)
    if len(used) and used[-1] >= len(palette):
        raise ValueError(f"has a palette of {len(palette)} colours, and pixels with the index {used[-1]}; {_ADVICE}")
    if len(palette) >= _N_CLASSES and (palette[:_N_CLASSES] == voc[:_N_CLASSES]).all():
        classes = used[used != 255]  # what is ignored has other colours in many people's files
        if (palette[classes] == voc[classes]).all():
            return np.arange(256, dtype=np.uint8)
    by_colour, is_voc = _by_colour(palette, voc)
    if (palette == palette[:, :1]).all():
        greys = _table(palette[:, 0])
        # Optimisers drop the colours that no pixel has. What is left of VOC's palette may be grey by chance.
        if is_voc and (greys[used] != by_colour[used]).any():
            raise ValueError(
                f"has a palette of few colours, which may be greys or VOC's own: {_shown(palette[used])}; {_ADVICE}"
            )
        return greys
    if not is_voc:
        raise ValueError(f"has a palette that is neither grey nor VOC's, with the colours {_shown(palette)}; {_ADVICE}")
    if len(np.unique(by_colour[used])) < len(used):
        raise ValueError(
            f"has one colour of VOC's palette at several indices, among {_shown(palette[used])}; {_ADVICE}"
        )
    return by_colour


_ADVICE = "store the class numbers themselves, as a grey PNG"


def _by_colour(palette, voc):
    """For each index the label with its colour in VOC's palette, and whether there is one for all of them."""
    keys = [1 << 16, 1 << 8, 1]
    order = np.argsort(voc @ keys)
    sorted_keys = (voc @ keys)[order]
    place = np.minimum(np.searchsorted(sorted_keys, palette @ keys), 255)
    return _table(order[place]), bool((sorted_keys[place] == palette @ keys).all())


def _table(values):
    table = np.zeros(256, np.uint8)
    table[: len(values)] = values
    return table


def _shown(colours):
    text = ", ".join("(" + ", ".join(map(str, colour)) + ")" for colour in colours[:4].tolist())
    return text + (", ..." if len(colours) > 4 else "")
