// The page of `rloss-caffe draw`: draws, saves, and shows what a loss makes of the strokes.

import { LabelMap, NOTHING, joined } from "./label_map.js";
import { PALETTES, css } from "./palette.js";
import * as server from "./server.js";
import { Pane, View } from "./view.js";

const byId = (id) => document.getElementById(id);
const LONGEST_UNSAVED = 500; // milliseconds of a stroke that goes on
const AGAIN = 2000; // milliseconds after a save that failed
const PATIENCE = 60; // milliseconds that a slider rests before a preview is asked for
const SLOW = 4000; // milliseconds after which a preview is being compiled rather than computed
const KEPT_HISTORIES = 20;
const KEPT_STEPS = 2e6; // characters that survive a reload; browsers keep some five million
const STEPS = "steps"; // where they are kept: for this tab, until it is closed

const state = {
  folder: null, // what the server told of it
  done: [], // of each photograph, whether it has strokes
  number: -1, // of the photograph that is shown
  photo: null, // ImageBitmap
  map: null, // LabelMap
  version: 0, // of the label map, as the server counts
  brush: 1, // a class, or NOTHING for the eraser
  width: 3,
  palette: "voc",
  result: null, // the last preview
  settings: {}, // of each choice of a loss
};
const histories = new Map(); // number: {version, map} of photographs that were shown before

const view = new View();
const strokes = new Pane(byId("strokes"), view);
const result = new Pane(byId("result"), view);
let pointer = null; // where the brush is, in the photograph's pixels

// ---------------------------------------------------------------- painting

const wanted = { strokes: false, result: false, box: null, everything: true };
let isPlanned = false;

function repaint({ box = null, strokes: map = false, result: shown = false } = {}) {
  if (map) {
    wanted.box = wanted.strokes && !wanted.box ? null : box ? joined(wanted.box, box) : null;
    wanted.strokes = true;
  }
  wanted.result = wanted.result || shown;
  if (!isPlanned) requestAnimationFrame(paint);
  isPlanned = true;
}

const repaintAll = () => repaint({ strokes: true, result: true });

function paint() {
  isPlanned = false;
  const colours = PALETTES[state.palette];
  const { map, photo } = state;
  const size = map ? [map.width, map.height] : [1, 1];
  if (wanted.strokes) {
    if (map) strokes.paintStrokes(map, colours, wanted.box);
    else strokes.clearLayer();
  }
  const isGradient = byId("shown").value !== "labels";
  if (wanted.result) {
    if (state.result && isGradient && state.result.more) result.paintGradient(state.result);
    else if (state.result && !isGradient) result.paintLabels(state.result, colours);
    else result.clearLayer();
  }
  Object.assign(wanted, { strokes: false, result: false, box: null });
  const brush = pointer && { ...pointer, width: state.width };
  strokes.draw(photo, size, 1, brush);
  result.draw(photo, size, byId("opacity").value / 100, pointer && { ...pointer, width: 0 }, isGradient);
  byId("zoom_text").value = `${Math.round(view.scale * 100)} %`;
}

function resize() {
  const changed = [strokes.resize(), result.resize()];
  if (changed.some(Boolean)) repaintAll();
}

function fit() {
  if (state.map) view.fit(state.map.width, state.map.height, strokes.canvas);
  repaintAll();
}

function zoom(factor, around) {
  if (!state.map) return;
  view.zoom(factor, around);
  repaintAll();
}

function move(dx, dy) {
  if (!state.map) return;
  view.move(dx, dy, state.map.width, state.map.height);
  repaintAll();
}

// ---------------------------------------------------------------- saving

const saving = { box: null, sent: null, sequence: 0, running: null, timer: 0, conflict: false };

function say(text, isBad = false) {
  byId("saved").textContent = text;
  byId("saved").classList.toggle("bad", isBad);
}

function patch() {
  const box = joined(saving.sent, saving.box);
  saving.sequence += 1;
  return { version: state.version, sequence: saving.sequence, box, runs: state.map.runs(box) };
}

function changed(box) {
  if (!box) return;
  saving.box = joined(saving.box, box);
  repaint({ strokes: true, box });
  if (!saving.timer && !saving.conflict) saving.timer = setTimeout(save, LONGEST_UNSAVED);
}

// Sends what has changed, and again what has changed meanwhile; ends when all is saved, or cannot be.
function save() {
  clearTimeout(saving.timer);
  saving.timer = 0;
  if (!saving.running) {
    saving.running = sendAll().finally(() => {
      saving.running = null;
    });
  }
  return saving.running;
}

async function sendAll() {
  while (saving.box && !saving.conflict) {
    say("Saving …");
    const next = patch();
    const { number, map } = state;
    saving.sent = next.box;
    saving.box = null;
    try {
      const answer = await server.save(number, next);
      saving.sent = null;
      state.version = answer.version;
      mark(number, answer.done);
      say("Saved");
    } catch (error) {
      saving.box = joined(saving.sent, saving.box);
      saving.sent = null;
      if (error.status === 409) {
        conflict();
      } else {
        say(`Not saved: ${error.message}`, true);
        if (state.map === map) saving.timer = setTimeout(save, AGAIN);
      }
      return false;
    }
  }
  return !saving.conflict;
}

// When the page is left there is no time for answers.
function saveAtOnce() {
  if (!state.map || saving.conflict || !(saving.box || saving.sent)) return;
  server.save(state.number, patch()).then(
    (answer) => {
      state.version = Math.max(state.version, answer.version);
    },
    () => {},
  );
}

// A tablet may end a page that is hidden without another word.
function leave() {
  if (stroke) {
    stroke = null;
    changed(state.map.end());
    tellSteps();
  }
  saveAtOnce();
  keepSteps();
}

// Undo and redo survive a reload. A step goes with the label map that it leads to: where another tab or program has
// changed that, the steps are forgotten.
function keepSteps() {
  const maps = [...histories].map(([number, { map }]) => [number, map]).filter(([number]) => number !== state.number);
  if (state.map) maps.push([state.number, state.map]);
  const kept = {};
  let room = KEPT_STEPS;
  const keep = (number, text) => {
    if (text && text.length <= room) {
      kept[number] = text;
      room -= text.length;
    }
  };
  for (const [number, map] of maps.reverse()) {
    if (room > 0 && map.done.length + map.undone.length) keep(number, map.packSteps(room));
  }
  for (const [number, text] of Object.entries(earlier)) keep(number, text);
  try {
    sessionStorage.setItem(STEPS, JSON.stringify({ path: location.pathname, kept }));
  } catch {
    forgetSteps(); // there is no room, or the user allows none
  }
}

function forgetSteps() {
  try {
    sessionStorage.removeItem(STEPS);
  } catch {
    // there are none
  }
}

let earlier = {}; // number: packed steps of before the reload, until the photograph is shown
function findSteps() {
  try {
    const found = JSON.parse(sessionStorage.getItem(STEPS));
    if (found?.path === location.pathname) earlier = found.kept; // of this folder, by its server's token
  } catch {
    forgetSteps();
  }
}

function takeEarlierSteps(number, map) {
  const text = earlier[number];
  delete earlier[number];
  try {
    if (text) map.unpackSteps(text);
  } catch {
    Object.assign(map, { done: [], undone: [] });
  }
}

function conflict() {
  saving.conflict = true;
  say("Not saved", true);
  notify(
    "These strokes were changed elsewhere, in another tab or by another program, after this page read them. " +
      "Your last changes here are not saved.",
    [
      ["Load what is saved", () => reload()],
      ["Keep mine instead", keepMine],
    ],
  );
}

function reload() {
  saving.conflict = false;
  saving.box = null;
  histories.delete(state.number);
  return show(state.number, { isAgain: true });
}

async function keepMine() {
  try {
    const theirs = await server.labels(state.number);
    state.version = theirs.version;
    saving.conflict = false;
    saving.box = [0, 0, state.map.width, state.map.height];
    dismiss();
    await save();
    look();
  } catch (error) {
    say(`Not saved: ${error.message}`, true);
  }
}

// Another tab may have drawn while this one was hidden.
async function lookForChanges() {
  if (!state.map || saving.conflict || saving.box || saving.running) return;
  const { number, version } = state;
  try {
    const now = await server.version(number);
    if (number !== state.number || version !== state.version || saving.box || saving.running) return;
    if (now !== version) {
      await reload();
      remark("These strokes were changed elsewhere; this page shows them as they are now.");
    }
  } catch (error) {
    say(error.message, true);
  }
}

// ---------------------------------------------------------------- messages

function notify(text, buttons = [["Close", dismiss]]) {
  byId("notice_text").textContent = text;
  byId("notice_buttons").replaceChildren(
    ...buttons.map(([label, action]) => {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = label;
      button.addEventListener("click", () => {
        dismiss();
        action();
      });
      return button;
    }),
  );
  byId("notice").hidden = false;
  resize();
}

function dismiss() {
  byId("notice").hidden = true;
  resize();
}

function remark(text) {
  byId("remark").textContent = text;
  byId("remark").hidden = !text;
  resize();
}

// ---------------------------------------------------------------- photographs

let opening = 0;

async function show(number, { isAgain = false } = {}) {
  if (number < 0 || number >= state.folder.photos.length || (number === state.number && !isAgain)) return;
  const mine = ++opening;
  if (state.map && !isAgain) {
    endStroke();
    if (!(await save())) return; // its notice stands there
    if (mine !== opening) return;
    if (state.map) histories.set(state.number, { version: state.version, map: state.map });
    if (histories.size > KEPT_HISTORIES) histories.delete(histories.keys().next().value);
  }
  Object.assign(state, { number, map: null, photo: null, result: null });
  Object.assign(saving, { box: null, sent: null, conflict: false });
  dismiss();
  remark("");
  say("");
  trouble("");
  tellPlace();
  byId("state").textContent = "Loading …";
  repaintAll();
  try {
    const [labels, photo] = await Promise.all([server.labels(number), server.photo(number)]);
    if (mine !== opening) return;
    const known = histories.get(number);
    state.map = known && known.version === labels.version
      ? known.map
      : new LabelMap(labels.width, labels.height, labels.values);
    takeEarlierSteps(number, state.map);
    Object.assign(state, { photo, version: labels.version });
    if (labels.turned) {
      remark("This photograph has a note (EXIF) that it be turned. It is shown as its pixels are stored, as a training reads it.");
    }
    fit();
    tellSteps();
    look();
  } catch (error) {
    if (mine !== opening) return;
    byId("state").textContent = "";
    trouble(error.message);
    repaintAll();
  }
}

function trouble(text) {
  byId("trouble").textContent = text;
  byId("trouble").hidden = !text;
  byId("hint").textContent = "";
}

function tellPlace() {
  const { number, folder } = state;
  byId("name").textContent = folder.photos[number];
  document.title = `${folder.photos[number]} – draw scribbles`;
  byId("previous").disabled = number <= 0;
  byId("next").disabled = number >= folder.photos.length - 1;
  history.replaceState(null, "", `#${number + 1}`);
  const list = byId("list");
  list.querySelector("[aria-current]")?.removeAttribute("aria-current");
  const entry = list.children[number];
  entry?.firstChild.setAttribute("aria-current", "true");
  entry?.scrollIntoView({ block: "nearest" });
  tellProgress();
}

function tellProgress() {
  const count = state.done.filter(Boolean).length;
  byId("progress").textContent = `${count} of ${state.done.length} drawn`;
}

function mark(number, isDone) {
  if (state.done[number] === isDone) return;
  state.done[number] = isDone;
  markEntry(byId("list").children[number], isDone);
  tellProgress();
}

function markEntry(entry, isDone) {
  entry.classList.toggle("done", isDone);
  entry.firstChild.lastChild.textContent = isDone ? "✓" : "";
  entry.firstChild.lastChild.setAttribute("aria-label", isDone ? "drawn" : "not drawn");
}

function makeList() {
  const list = byId("list");
  const entries = state.folder.photos.map((name, number) => {
    const entry = document.createElement("li");
    const button = document.createElement("button");
    const [label, tick] = [document.createElement("span"), document.createElement("span")];
    button.type = "button";
    button.dataset.number = number;
    label.textContent = name;
    button.title = name;
    tick.className = "tick";
    tick.setAttribute("role", "img");
    button.append(label, tick);
    entry.append(button);
    markEntry(entry, state.done[number]);
    return entry;
  });
  list.replaceChildren(...entries);
  list.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (!button) return;
    if (isNarrow()) toggleList(); // it lies over the photograph
    show(Number(button.dataset.number));
  });
  byId("problems").hidden = !state.folder.problems.length;
  byId("problems_count").textContent = `${state.folder.problems.length} left out`;
  byId("problems_text").textContent = state.folder.problems.slice(0, 200).join("\n");
  byId("only_open").addEventListener("change", () => list.classList.toggle("only_open", byId("only_open").checked));
}

// The next photograph, or with the filter the next one without strokes.
function go(step) {
  let number = state.number + step;
  while (byId("only_open").checked && state.done[number]) number += step;
  show(number);
}

// ---------------------------------------------------------------- brushes

function makeBrushes() {
  const entries = [...state.folder.classes.entries(), [NOTHING, "Eraser"]];
  byId("brushes").replaceChildren(
    ...entries.map(([label, name]) => {
      const button = document.createElement("button");
      const [swatch, key, text] = ["span", "kbd", "span"].map((tag) => document.createElement(tag));
      swatch.className = "swatch";
      button.type = "button";
      button.dataset.label = label;
      text.textContent = name;
      button.append(swatch, text);
      if (label < 10 || label === NOTHING) {
        key.textContent = label === NOTHING ? "E" : label;
        button.append(key);
        button.setAttribute("aria-keyshortcuts", key.textContent);
      }
      button.addEventListener("click", () => choose(label));
      return button;
    }),
  );
  choose(state.folder.classes.length > 1 ? 1 : 0);
}

function choose(label) {
  if (label !== NOTHING && label >= state.folder.classes.length) return;
  state.brush = label;
  for (const button of byId("brushes").children) {
    const own = Number(button.dataset.label);
    button.setAttribute("aria-pressed", own === label);
    button.firstChild.style.background = own === NOTHING ? "" : css(PALETTES[state.palette], own);
    button.firstChild.classList.toggle("eraser", own === NOTHING);
  }
  if (byId("shown").value !== "labels") look();
}

function setWidth(width) {
  state.width = Math.min(Math.max(width, 1), 41);
  byId("width").value = state.width;
  byId("width_text").value = `${state.width} px`;
  repaint();
}

function tellSteps() {
  byId("undo").disabled = !state.map?.done.length;
  byId("redo").disabled = !state.map?.undone.length;
}

function takeStep(which) {
  if (!state.map || stroke) return;
  const box = state.map[which]();
  if (!box) return;
  changed(box);
  finish();
}

// After a change that is complete: save it, and look at what comes of it.
function finish() {
  tellSteps();
  save();
  look();
}

// ---------------------------------------------------------------- pointers

let stroke = null; // {id, label, last}
let drag = null; // {id, x, y}
let isSpaceDown = false;
let isPenKnown = false; // then fingers move the photograph, and a hand that rests on the glass draws nothing
const fingers = new Map();
let pinch = null;

const ERASERS = 32; // of a pen, in event.buttons

function pixelAt(event) {
  return view.at(event, strokes.canvas).map(Math.floor);
}

function down(event) {
  if (!state.map) return;
  const canvas = event.currentTarget;
  canvas.setPointerCapture(event.pointerId);
  event.preventDefault();
  canvas.focus?.({ preventScroll: true });
  if (event.pointerType === "pen") isPenKnown = true;
  if (event.pointerType === "touch") {
    fingers.set(event.pointerId, event);
    if (fingers.size > 1) {
      endStroke(false);
      drag = null;
      pinch = fingers.size === 2 ? twoFingers() : null;
      return;
    }
  }
  const moves = event.button === 1 || isSpaceDown || canvas === result.canvas || (event.pointerType === "touch" && isPenKnown);
  if (moves) {
    drag = { id: event.pointerId, x: event.clientX, y: event.clientY };
    return;
  }
  if (stroke || ![0, 2, 5].includes(event.button)) return;
  const erases = event.button === 2 || event.button === 5 || (event.buttons & ERASERS) !== 0;
  stroke = { id: event.pointerId, label: erases ? NOTHING : state.brush, last: pixelAt(event) };
  state.map.begin();
  changed(state.map.line(stroke.last, stroke.last, state.width / 2, stroke.label));
}

function moved(event) {
  const [x, y] = view.at(event, event.currentTarget);
  pointer = event.pointerType === "touch" ? null : { x, y };
  tellUnderPointer(Math.floor(x), Math.floor(y));
  if (event.pointerType === "touch" && fingers.has(event.pointerId)) {
    fingers.set(event.pointerId, event);
    if (pinch && fingers.size === 2) {
      const now = twoFingers();
      move(now.x - pinch.x, now.y - pinch.y);
      zoom(now.distance / pinch.distance, view.at({ clientX: now.x, clientY: now.y }, event.currentTarget));
      pinch = now;
      return;
    }
  }
  if (drag?.id === event.pointerId) {
    move(event.clientX - drag.x, event.clientY - drag.y);
    Object.assign(drag, { x: event.clientX, y: event.clientY });
  } else if (stroke?.id === event.pointerId) {
    const passed = event.getCoalescedEvents?.() ?? [];
    for (const each of passed.length ? passed : [event]) {
      const next = pixelAt(each);
      changed(state.map.line(stroke.last, next, state.width / 2, stroke.label));
      stroke.last = next;
    }
  } else repaint();
}

function up(event) {
  fingers.delete(event.pointerId);
  if (fingers.size < 2) pinch = null;
  if (drag?.id === event.pointerId) drag = null;
  if (stroke?.id === event.pointerId) endStroke();
}

function endStroke(keep = true) {
  if (!stroke) return;
  stroke = null;
  changed(state.map.end(keep));
  finish();
}

function twoFingers() {
  const [one, other] = [...fingers.values()];
  return {
    x: (one.clientX + other.clientX) / 2,
    y: (one.clientY + other.clientY) / 2,
    distance: Math.max(Math.hypot(one.clientX - other.clientX, one.clientY - other.clientY), 1),
  };
}

function tellUnderPointer(x, y) {
  const { map, folder, result: found } = state;
  const isInside = map && x >= 0 && y >= 0 && x < map.width && y < map.height;
  const name = (label) => (label === NOTHING ? "–" : folder.classes[label]);
  let text = "";
  if (isInside) {
    text = `${x}, ${y}: ${name(map.values[y * map.width + x])}`;
    if (found) {
      const label = found.values[Math.floor(y / found.step) * found.width + Math.floor(x / found.step)];
      if (label !== undefined) text += ` → ${name(label)}`;
    }
  }
  byId("under_pointer").textContent = text;
}

function listenToPointers() {
  for (const { canvas } of [strokes, result]) {
    canvas.addEventListener("pointerdown", down);
    canvas.addEventListener("pointermove", moved);
    canvas.addEventListener("pointerup", up);
    canvas.addEventListener("pointercancel", up);
    canvas.addEventListener("pointerleave", () => {
      pointer = null;
      byId("under_pointer").textContent = "";
      repaint();
    });
    canvas.addEventListener("contextmenu", (event) => event.preventDefault());
    canvas.addEventListener(
      "wheel",
      (event) => {
        event.preventDefault();
        const lines = event.deltaMode === 1 ? 30 : 1;
        zoom(Math.exp(-event.deltaY * lines * (event.ctrlKey ? 0.01 : 0.002)), view.at(event, canvas));
      },
      { passive: false },
    );
  }
}

// ---------------------------------------------------------------- keys

const KEYS = {
  e: () => choose(NOTHING),
  z: () => takeStep("undo"),
  y: () => takeStep("redo"),
  n: () => go(1),
  p: () => go(-1),
  pagedown: () => go(1),
  pageup: () => go(-1),
  f: fit,
  a: () => zoom(1 / view.scale),
  g: nextShown,
  l: toggleList,
  "+": () => zoom(1.25),
  "=": () => zoom(1.25),
  "-": () => zoom(0.8),
  "[": () => setWidth(state.width - 2),
  "]": () => setWidth(state.width + 2),
  "?": () => byId("help").showModal(),
  arrowleft: () => move(60, 0),
  arrowright: () => move(-60, 0),
  arrowup: () => move(0, 60),
  arrowdown: () => move(0, -60),
};

function pressed(event) {
  const key = event.key.toLowerCase();
  if (byId("help").open || event.altKey) return;
  const isTyping = event.target.matches?.("input[type=range], select");
  if (isTyping && (key.startsWith("arrow") || key.startsWith("page") || /^[a-z]$/.test(key) && event.target.matches("select"))) return;
  if (event.ctrlKey || event.metaKey) {
    if (key !== "z" && key !== "y") return;
    event.preventDefault();
    takeStep(key === "y" || event.shiftKey ? "redo" : "undo");
    return;
  }
  if (key === " ") {
    if (event.target.matches?.("button, input, select")) return;
    isSpaceDown = true;
    strokes.canvas.classList.add("moves");
    event.preventDefault();
    return;
  }
  const digit = /^Digit([0-9])$/.exec(event.code) ?? /^Numpad([0-9])$/.exec(event.code);
  const action = /^[0-9]$/.test(key) ? () => choose(Number(key)) : digit && !KEYS[key] ? () => choose(Number(digit[1])) : KEYS[key];
  if (!action) return;
  event.preventDefault();
  action();
}

function released(event) {
  if (event.key !== " ") return;
  isSpaceDown = false;
  strokes.canvas.classList.remove("moves");
}

// ---------------------------------------------------------------- previews

const looking = { timer: 0, controller: null, wish: 0 };

// Low and high ends of sliders are far apart: equal steps are equal factors. A push may be 0 as well.
const PARTS = 100;
const toValue = ({ low, high, whole }, place) => {
  const value = low * (high / low) ** (place / PARTS);
  return whole ? Math.round(value) : Number(value.toPrecision(3));
};
const toPlace = ({ low, high }, value) => Math.round((PARTS * Math.log(value / low)) / Math.log(high / low));
const toPush = (place) => (place === 0 ? 0 : toValue(state.folder.push, place));
const fromPush = (value) => (value === 0 ? 0 : Math.max(1, toPlace(state.folder.push, value)));

function settingsOf(choice) {
  if (!state.settings[choice]) {
    const options = Object.fromEntries(state.folder.choices[choice].sliders.map((each) => [each.name, each.default]));
    state.settings[choice] = { push: state.folder.push.default, options };
  }
  return state.settings[choice];
}

function makeSettings() {
  const select = byId("choice");
  select.replaceChildren(...Object.entries(state.folder.choices).map(([name, choice]) => new Option(choice.label, name)));
  select.addEventListener("change", makeSliders);
  byId("start_group").hidden = !state.folder.net;
  if (state.folder.net) byId("start").value = "net";
  byId("start").addEventListener("change", look);
  byId("shown").addEventListener("change", look);
  byId("opacity").addEventListener("input", () => {
    byId("opacity_text").value = `${byId("opacity").value} %`;
    repaint();
  });
  byId("push").addEventListener("input", () => {
    settingsOf(select.value).push = toPush(Number(byId("push").value));
    tellPush();
    lookSoon();
  });
  byId("defaults").addEventListener("click", () => {
    delete state.settings[select.value];
    makeSliders();
  });
  makeSliders();
}

function tellPush() {
  const { push } = settingsOf(byId("choice").value);
  byId("push").value = fromPush(push);
  byId("push_text").value = Number(push.toPrecision(2));
}

function makeSliders() {
  const choice = byId("choice").value;
  const { options } = settingsOf(choice);
  tellPush();
  byId("sliders").replaceChildren(
    ...state.folder.choices[choice].sliders.map((slider) => {
      const group = document.createElement("div");
      const [label, input, output] = ["label", "input", "output"].map((tag) => document.createElement(tag));
      group.className = "group";
      input.id = `slider_${slider.name}`;
      label.htmlFor = input.id;
      label.textContent = slider.label;
      Object.assign(input, { type: "range", min: 0, max: PARTS, step: 1, title: slider.meaning });
      input.value = toPlace(slider, options[slider.name]);
      output.value = options[slider.name];
      input.addEventListener("input", () => {
        options[slider.name] = toValue(slider, Number(input.value));
        output.value = options[slider.name];
        lookSoon();
      });
      group.append(label, input, output);
      return group;
    }),
  );
  look();
}

function lookSoon() {
  clearTimeout(looking.timer);
  looking.timer = setTimeout(look, PATIENCE);
}

function nextShown() {
  const select = byId("shown");
  select.selectedIndex = (select.selectedIndex + 1) % select.options.length;
  look();
}

// Asks for what comes of the strokes as they are now: coarse, then full. A newer wish ends this one.
async function look() {
  clearTimeout(looking.timer);
  looking.controller?.abort();
  const { map, number } = state;
  if (!map) return;
  const mine = ++looking.wish;
  const isNewest = () => mine === looking.wish && map === state.map;
  const fromNet = state.folder.net && byId("start").value === "net";
  const classes = map.countClasses();
  if (!fromNet && classes < 2) {
    state.result = null;
    byId("state").textContent = "";
    byId("numbers").textContent = "";
    byId("hint").textContent = classes
      ? "A stroke of one more class, and the result appears here."
      : "Draw strokes of at least two classes. The result appears here.";
    repaint({ result: true });
    return;
  }
  byId("hint").textContent = "";
  const controller = new AbortController();
  looking.controller = controller;
  const started = performance.now();
  const isSlow = setTimeout(() => {
    byId("state").textContent = "working …; a loss's first preview takes up to a minute, once";
  }, SLOW);
  const shown = byId("shown").value;
  const isGradient = shown !== "labels";
  if (isGradient !== Boolean(state.result?.more)) repaint({ result: true });
  try {
    if (!(await save()) || !isNewest()) return;
    const choice = byId("choice").value;
    const { push, options } = settingsOf(choice);
    const gradient = isGradient && state.brush !== NOTHING ? state.brush : isGradient ? 0 : -1;
    for (const full of [false, true]) {
      byId("state").textContent = full ? "coarse; working on it …" : "working …";
      const wish = {
        photo: number, version: state.version, choice, options, push, net: fromNet, full, gradient,
        at_start: shown === "start",
      };
      const found = await server.preview(wish, controller.signal);
      clearTimeout(isSlow);
      if (!isNewest()) return;
      state.result = found;
      repaint({ result: true });
      tellNumbers(found);
    }
    byId("state").textContent = `${((performance.now() - started) / 1000).toFixed(1)} s`;
  } catch (error) {
    if (error.name === "AbortError" || error.isSuperseded || !isNewest()) return;
    byId("state").textContent = "";
    byId("hint").textContent = error.message;
    state.result = null;
    repaint({ result: true });
  } finally {
    clearTimeout(isSlow);
  }
}

function tellNumbers(found) {
  const number = (value) => value.toPrecision(3);
  let text = `Cross entropy ${number(found.cross_entropy)}, loss ${number(found.loss)}, weight ${number(found.weight)}`;
  if (found.more) {
    const name = state.folder.classes[state.brush] ?? state.folder.classes[0];
    text = `Gradient of ${name}: red pushes it down, blue up; at most ${number(found.largest)}`;
  }
  byId("numbers").textContent = text;
}

// ---------------------------------------------------------------- beginning

const isNarrow = () => window.matchMedia("(max-width: 60rem)").matches;

function toggleList() {
  const isHidden = document.body.classList.toggle("without_list");
  byId("list_button").setAttribute("aria-expanded", !isHidden);
  resize();
}

function listen() {
  listenToPointers();
  document.addEventListener("keydown", pressed);
  document.addEventListener("keyup", released);
  window.addEventListener("resize", resize);
  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => repaint());
  new ResizeObserver(resize).observe(byId("panes"));
  window.addEventListener("pagehide", leave);
  window.addEventListener("focus", lookForChanges);
  document.addEventListener("visibilitychange", () => (document.hidden ? leave() : lookForChanges()));
  window.addEventListener("beforeunload", (event) => {
    if (saving.conflict || byId("saved").classList.contains("bad")) event.preventDefault();
  });
  byId("previous").addEventListener("click", () => go(-1));
  byId("next").addEventListener("click", () => go(1));
  byId("undo").addEventListener("click", () => takeStep("undo"));
  byId("redo").addEventListener("click", () => takeStep("redo"));
  byId("zoom_in").addEventListener("click", () => zoom(1.25));
  byId("zoom_out").addEventListener("click", () => zoom(0.8));
  byId("fit").addEventListener("click", fit);
  byId("actual").addEventListener("click", () => zoom(1 / view.scale));
  byId("width").addEventListener("input", () => setWidth(Number(byId("width").value)));
  byId("list_button").addEventListener("click", toggleList);
  byId("help_button").addEventListener("click", () => byId("help").showModal());
  byId("palette").addEventListener("change", () => {
    state.palette = byId("palette").value;
    choose(state.brush);
    repaintAll();
  });
}

async function begin() {
  try {
    state.folder = await server.folder();
  } catch (error) {
    notify(error.message, []);
    return;
  }
  state.done = state.folder.done;
  findSteps();
  makeList();
  makeBrushes();
  makeSettings();
  setWidth(3);
  listen();
  if (isNarrow()) toggleList();
  const asked = Number(location.hash.slice(1)) - 1;
  const first = Math.max(state.done.indexOf(false), 0);
  await show(state.done[asked] === undefined ? first : asked);
}

window.drawing = { state, view }; // for the browser's console, and for tests
begin();
