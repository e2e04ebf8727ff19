// What is seen: zoom and place, the same in both panes, and the panes, painted in pixels of the screen.

import { NOTHING } from "./label_map.js";

const SMALLEST = 0.02;
const LARGEST = 40;
const RIM = 0xffebebeb; // a light line, as in the project's pictures; the order of bytes is A B G R
const STRONGEST = 200; // of 255: how opaque the largest gradient is

export class View {
  constructor() {
    this.scale = 1; // pixels of the page that one of the photograph takes
    this.x = this.y = 0; // what of the photograph is in the middle of a pane
  }

  fit(width, height, element) {
    const room = element.getBoundingClientRect();
    this.scale = Math.min((room.width - 8) / width, (room.height - 8) / height, LARGEST);
    this.scale = Math.max(this.scale, SMALLEST);
    this.x = width / 2;
    this.y = height / 2;
  }

  zoom(factor, around) {
    const scale = Math.min(Math.max(this.scale * factor, SMALLEST), LARGEST);
    const moved = around || [this.x, this.y];
    this.x = moved[0] + ((this.x - moved[0]) * this.scale) / scale;
    this.y = moved[1] + ((this.y - moved[1]) * this.scale) / scale;
    this.scale = scale;
  }

  move(dx, dy, width, height) {
    this.x = Math.min(Math.max(this.x - dx / this.scale, 0), width);
    this.y = Math.min(Math.max(this.y - dy / this.scale, 0), height);
  }

  // Where in the photograph a place of the screen is: 0 is the left or upper edge of the first pixel.
  at(event, element) {
    const room = element.getBoundingClientRect();
    return [
      this.x + (event.clientX - room.left - room.width / 2) / this.scale,
      this.y + (event.clientY - room.top - room.height / 2) / this.scale,
    ];
  }
}

export class Pane {
  constructor(canvas, view) {
    Object.assign(this, { canvas, view });
    this.context = canvas.getContext("2d", { alpha: false });
    this.layer = document.createElement("canvas");
    this.layerContext = this.layer.getContext("2d");
    this.resize();
  }

  // The canvas has a pixel for each of the screen's.
  resize() {
    const room = this.canvas.getBoundingClientRect();
    this.ratio = window.devicePixelRatio || 1;
    const [width, height] = [room.width, room.height].map((side) => Math.max(1, Math.round(side * this.ratio)));
    if (width === this.canvas.width && height === this.canvas.height && this.image) return false;
    Object.assign(this.canvas, { width, height });
    Object.assign(this.layer, { width, height });
    this.image = this.layerContext.createImageData(width, height);
    this.pixels = new Uint32Array(this.image.data.buffer);
    this.labels = new Uint8Array(width * height);
    return true;
  }

  get scale() {
    return this.view.scale * this.ratio;
  }

  // The left and upper edge of the pane, in the photograph's pixels.
  get origin() {
    const { canvas, view, scale } = this;
    return [view.x - canvas.width / 2 / scale, view.y - canvas.height / 2 / scale];
  }

  // For each of `count` pixels of the screen the first pixel of a map it shows, and one more end; step: pixels of the
  // photograph that one of the map stands for.
  places(count, origin, size, step) {
    const places = new Int32Array(count + 1);
    for (let place = 0; place <= count; place++) {
      places[place] = Math.floor((origin + place / this.scale) / step);
    }
    return places;
  }

  // Strokes in their colours with a light rim. A pixel of the screen that shows several of the map has the label of
  // any that is labelled. box: the part of the map that has changed, else all.
  paintStrokes(map, colours, box) {
    const { width, height } = this.canvas;
    const [x0, y0] = this.origin;
    const columns = this.places(width, x0, map.width, 1);
    const rows = this.places(height, y0, map.height, 1);
    let [left, top, right, bottom] = [0, 0, width, height];
    if (box) {
      const onScreen = (place, origin) => Math.floor((place - origin) * this.scale);
      left = Math.max(onScreen(box[0], x0) - 2, 0);
      right = Math.min(onScreen(box[0] + box[2], x0) + 3, width);
      top = Math.max(onScreen(box[1], y0) - 2, 0);
      bottom = Math.min(onScreen(box[1] + box[3], y0) + 3, height);
    }
    if (left >= right || top >= bottom) return;
    for (let y = top; y < bottom; y++) {
      const [firstRow, lastRow] = [Math.max(rows[y], 0), Math.min(Math.max(rows[y + 1], rows[y] + 1), map.height)];
      for (let x = left; x < right; x++) {
        let label = NOTHING;
        const first = Math.max(columns[x], 0);
        const last = Math.min(Math.max(columns[x + 1], columns[x] + 1), map.width);
        for (let row = firstRow; row < lastRow && label === NOTHING; row++) {
          for (let column = first; column < last; column++) {
            label = map.values[row * map.width + column];
            if (label !== NOTHING) break;
          }
        }
        this.labels[y * width + x] = label;
      }
    }
    const table = packed(colours);
    const { labels, pixels } = this;
    for (let y = top; y < bottom; y++) {
      for (let x = left; x < right; x++) {
        const place = y * width + x;
        if (labels[place] !== NOTHING) pixels[place] = table[labels[place]];
        else {
          const isRim =
            (x > 0 && labels[place - 1] !== NOTHING) || (x + 1 < width && labels[place + 1] !== NOTHING) ||
            (y > 0 && labels[place - width] !== NOTHING) || (y + 1 < height && labels[place + width] !== NOTHING);
          pixels[place] = isRim ? RIM : 0;
        }
      }
    }
    this.layerContext.putImageData(this.image, 0, 0, left, top, right - left, bottom - top);
  }

  // A whole label map, with a light line between labels.
  paintLabels(map, colours) {
    const { width, height } = this.canvas;
    const [x0, y0] = this.origin;
    const columns = this.places(width, x0 + 0.5 / this.scale, map.width, map.step);
    const rows = this.places(height, y0 + 0.5 / this.scale, map.height, map.step);
    const table = packed(colours);
    const { labels, pixels } = this;
    for (let y = 0; y < height; y++) {
      const row = rows[y] >= 0 && rows[y] < map.height ? rows[y] * map.width : -1;
      for (let x = 0; x < width; x++) {
        const place = y * width + x;
        const isInside = row >= 0 && columns[x] >= 0 && columns[x] < map.width;
        const label = isInside ? map.values[row + columns[x]] : NOTHING;
        labels[place] = label;
        if (label === NOTHING) pixels[place] = 0;
        else {
          const [beside, above] = [x > 0 ? labels[place - 1] : label, y > 0 ? labels[place - width] : label];
          const isEdge = (beside !== label && beside !== NOTHING) || (above !== label && above !== NOTHING);
          pixels[place] = isEdge ? RIM : table[label];
        }
      }
    }
    this.layerContext.putImageData(this.image, 0, 0);
  }

  // A gradient: red where it pushes the class down, blue where up, clear where it does nothing.
  paintGradient(map) {
    const { width, height } = this.canvas;
    const [x0, y0] = this.origin;
    const columns = this.places(width, x0 + 0.5 / this.scale, map.width, map.step);
    const rows = this.places(height, y0 + 0.5 / this.scale, map.height, map.step);
    const table = new Uint32Array(256);
    for (let value = -127; value < 128; value++) {
      const alpha = Math.abs(value) < 2 ? 0 : Math.round((Math.abs(value) / 127) ** 0.7 * STRONGEST);
      table[value + 128] = ((alpha << 24) | (value > 0 ? 0x2020e0 : 0xf06414)) >>> 0;
    }
    for (let y = 0; y < height; y++) {
      const row = rows[y] >= 0 && rows[y] < map.height ? rows[y] * map.width : -1;
      for (let x = 0; x < width; x++) {
        const isInside = row >= 0 && columns[x] >= 0 && columns[x] < map.width;
        this.pixels[y * width + x] = isInside ? table[map.more[row + columns[x]] + 128] : 0;
      }
    }
    this.layerContext.putImageData(this.image, 0, 0);
  }

  clearLayer() {
    this.layerContext.clearRect(0, 0, this.layer.width, this.layer.height);
  }

  // Photograph, layer, and the brush's outline, if it is over a pane.
  draw(photo, size, opacity, brush, grey) {
    const { canvas, context, scale } = this;
    const [x0, y0] = this.origin;
    context.fillStyle = getComputedStyle(canvas).backgroundColor;
    context.fillRect(0, 0, canvas.width, canvas.height);
    if (!photo) return;
    context.imageSmoothingEnabled = scale < 2;
    context.filter = grey ? "grayscale(1)" : "none";
    context.drawImage(photo, -x0 * scale, -y0 * scale, size[0] * scale, size[1] * scale);
    context.filter = "none";
    context.globalAlpha = opacity;
    context.drawImage(this.layer, 0, 0);
    context.globalAlpha = 1;
    if (brush) {
      const [x, y] = [(brush.x - x0) * scale, (brush.y - y0) * scale];
      const radius = Math.max((brush.width / 2) * scale, 2);
      for (const [colour, more] of [["#000a", 1], ["#fff", 0]]) {
        context.strokeStyle = colour;
        context.lineWidth = this.ratio;
        context.beginPath();
        context.arc(x, y, radius + more * this.ratio, 0, 2 * Math.PI);
        context.stroke();
      }
    }
  }
}

function packed(colours) {
  const table = new Uint32Array(256);
  for (let label = 0; label < 256; label++) {
    const [red, green, blue] = colours.subarray(3 * label, 3 * label + 3);
    table[label] = (0xff000000 | (blue << 16) | (green << 8) | red) >>> 0;
  }
  return table;
}
