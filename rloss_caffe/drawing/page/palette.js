// Colours of labels, as RGB triples of 256 labels each.

// PASCAL VOC's: the bits of a label are dealt out to red, green and blue, the highest bit of a colour first.
function voc() {
  const colours = new Uint8Array(256 * 3);
  for (let label = 0; label < 256; label++) {
    for (let bit = 0; bit < 8; bit++) {
      colours[3 * label + (bit % 3)] |= ((label >> bit) & 1) << (7 - Math.floor(bit / 3));
    }
  }
  return colours;
}

// Okabe and Ito's eight colours, then some of Paul Tol's "muted" ones; VOC's where these end.
function safe() {
  const colours = voc();
  const known = [
    [0, 0, 0], [230, 159, 0], [86, 180, 233], [0, 158, 115], [240, 228, 66], [0, 114, 178], [213, 94, 0],
    [204, 121, 167], [136, 34, 85], [187, 187, 187], [51, 34, 136], [153, 153, 51], [221, 204, 119], [17, 119, 51],
    [136, 204, 238], [204, 102, 119],
  ];
  known.forEach((colour, label) => colours.set(colour, 3 * label));
  return colours;
}

export const PALETTES = { voc: voc(), safe: safe() };

export function css(colours, label) {
  return `rgb(${colours[3 * label]}, ${colours[3 * label + 1]}, ${colours[3 * label + 2]})`;
}
