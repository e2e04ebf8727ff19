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
    const part = this.cut(this.values, box);
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
}
