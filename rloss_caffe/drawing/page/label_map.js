// A label map in its own pixels: strokes of exact classes, undo and redo, runs of equal labels.

export const NOTHING = 255;
const MOST_STEPS = 200;
const MOST_BYTES = 200e6; // of all steps together

// A box is [x, y, width, height].
export function joined(one, other) {
  if (!one || !other) return one || other;
  const x = Math.min(one[0], other[0]);
  const y = Math.min(one[1], other[1]);
  return [x, y, Math.max(one[0] + one[2], other[0] + other[2]) - x, Math.max(one[1] + one[3], other[1] + other[3]) - y];
}

export class LabelMap {
  constructor(width, height, values) {
    Object.assign(this, { width, height, values });
    this.done = [];
    this.undone = [];
    this.before = null; // the values before the stroke that is being drawn
    this.touched = null;
  }

  // How many classes there are strokes of.
  countClasses() {
    const found = new Uint8Array(256);
    for (let place = 0; place < this.values.length; place++) found[this.values[place]] = 1;
    found[NOTHING] = 0;
    return found.reduce((sum, each) => sum + each, 0);
  }

  begin() {
    this.before = this.values.slice();
    this.touched = null;
  }

  // Every pixel whose centre is at most radius from the line between two pixels; returns the box it lies in.
  line([ax, ay], [bx, by], radius, label) {
    const left = Math.max(Math.ceil(Math.min(ax, bx) - radius), 0);
    const right = Math.min(Math.floor(Math.max(ax, bx) + radius), this.width - 1);
    const top = Math.max(Math.ceil(Math.min(ay, by) - radius), 0);
    const bottom = Math.min(Math.floor(Math.max(ay, by) + radius), this.height - 1);
    if (left > right || top > bottom) return null;
    const [dx, dy] = [bx - ax, by - ay];
    const length = dx * dx + dy * dy;
    for (let y = top; y <= bottom; y++) {
      for (let x = left; x <= right; x++) {
        let along = 0; // of the nearest point of the line, from 0 to 1
        if (length > 0) along = Math.min(Math.max(((x - ax) * dx + (y - ay) * dy) / length, 0), 1);
        const [ex, ey] = [x - ax - along * dx, y - ay - along * dy];
        if (ex * ex + ey * ey <= radius * radius) this.values[y * this.width + x] = label;
      }
    }
    const box = [left, top, right - left + 1, bottom - top + 1];
    this.touched = joined(this.touched, box);
    return box;
  }

  // Ends the stroke; it becomes a step that can be undone. With keep false it never was.
  end(keep = true) {
    const [before, box] = [this.before, this.touched];
    this.before = this.touched = null;
    if (!before || !box) return null;
    const step = { box, before: this.cut(before, box), after: this.cut(this.values, box) };
    if (!keep) {
      this.paste(step.before, box);
      return box;
    }
    if (step.before.every((value, place) => value === step.after[place])) return null;
    this.done.push(step);
    this.undone = [];
    let bytes = 0;
    const size = (each) => (bytes += 2 * each.before.length);
    this.done.slice().reverse().forEach((each, place) => {
      if (size(each) > MOST_BYTES && place > 0) this.done.splice(0, this.done.length - place);
    });
    if (this.done.length > MOST_STEPS) this.done.shift();
    return box;
  }

  undo() {
    return this.step(this.done, this.undone, "before");
  }

  redo() {
    return this.step(this.undone, this.done, "after");
  }

  step(from, to, which) {
    const step = from.pop();
    if (!step) return null;
    to.push(step);
    this.paste(step[which], step.box);
    return step.box;
  }

  cut(values, [x, y, width, height]) {
    const part = new Uint8Array(width * height);
    for (let row = 0; row < height; row++) {
      const start = (y + row) * this.width + x;
      part.set(values.subarray(start, start + width), row * width);
    }
    return part;
  }

  paste(part, [x, y, width, height]) {
    for (let row = 0; row < height; row++) {
      this.values.set(part.subarray(row * width, (row + 1) * width), (y + row) * this.width + x);
    }
  }

  // Label, count, label, count, ... of a box, row by row.
  runs(box) {
    return runsOf(this.cut(this.values, box));
  }

  // The newest steps in both directions, as JSON of at most so many characters or, where none fits, as "".
  packSteps(most) {
    const packed = { fingerprint: this.fingerprint(), done: [], undone: [] };
    let length = JSON.stringify(packed).length;
    for (const which of ["done", "undone"]) {
      for (const { box, before, after } of this[which].slice().reverse()) {
        const step = { box, before: runsOf(before), after: runsOf(after) };
        length += JSON.stringify(step).length + 1;
        if (length > most) break;
        packed[which].unshift(step);
      }
    }
    return packed.done.length + packed.undone.length ? JSON.stringify(packed) : "";
  }

  // Takes such steps back, if this map is the one that they lead to; says whether.
  unpackSteps(text) {
    const packed = JSON.parse(text);
    if (packed.fingerprint !== this.fingerprint()) return false;
    for (const which of ["done", "undone"]) {
      this[which] = packed[which].map(({ box, before, after }) => ({
        box, before: ofRuns(before, box[2] * box[3]), after: ofRuns(after, box[2] * box[3]),
      }));
    }
    return true;
  }

  // A text that maps of the same size and labels share, and hardly any others: two hashes, as of Fowler, Noll and Vo.
  fingerprint() {
    let [one, other] = [0x811c9dc5, 0x01234567];
    for (let place = 0; place < this.values.length; place++) {
      one = Math.imul(one ^ this.values[place], 0x01000193);
      other = Math.imul(other + this.values[place] + 1, 0x5bd1e995) ^ (other >>> 15);
    }
    return [this.width, this.height, one >>> 0, other >>> 0].join(" ");
  }
}

function runsOf(part) {
  const runs = [];
  let start = 0;
  for (let place = 1; place <= part.length; place++) {
    if (place === part.length || part[place] !== part[start]) {
      runs.push(part[start], place - start);
      start = place;
    }
  }
  return runs;
}

function ofRuns(runs, length) {
  const part = new Uint8Array(length);
  let start = 0;
  for (let place = 0; place < runs.length; place += 2) {
    part.fill(runs[place], start, start + runs[place + 1]);
    start += runs[place + 1];
  }
  return part;
}
