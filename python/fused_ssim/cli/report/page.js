/* SPDX-License-Identifier: MIT */
/* The table and the viewer of the report. Text from files enters the page through textContent only. */
"use strict";

const $ = (id) => document.getElementById(id);
const body = document.querySelector("#pairs tbody");
const rows = [...body.rows];

/* ---- Light and dark ---- */

$("theme").addEventListener("click", () => {
  const isDark = getComputedStyle(document.body).backgroundColor !== "rgb(255, 255, 255)";
  document.documentElement.style.colorScheme = isDark ? "light" : "dark";
});

/* ---- The table: order, and which rows are shown ---- */

const nameOf = (row) => row.querySelector(".open").textContent;
const order = new Intl.Collator("en", { numeric: true });
const sizeOf = (row) => row.dataset.size.split(" ").reduce((product, side) => product * Number(side), 1);

function keyOf(row, key) {
  return key === "name" ? nameOf(row) : key === "size" ? sizeOf(row) : Number(row.dataset[key]);
}

function sort(key, descending) {
  const sign = descending ? -1 : 1;
  const keyed = rows.map((row, index) => [keyOf(row, key), index, row]);
  keyed.sort(([a, i], [b, j]) => {
    if (key === "name") return sign * order.compare(a, b) || i - j;
    if (Number.isNaN(a) || Number.isNaN(b)) return Number.isNaN(a) - Number.isNaN(b) || i - j; // no number: last
    return sign * (a > b ? 1 : a < b ? -1 : 0) || i - j;
  });
  const all = document.createDocumentFragment();
  for (const [, , row] of keyed) all.append(row);
  body.append(all);
}

for (const button of document.querySelectorAll("#pairs thead button")) {
  button.addEventListener("click", () => {
    const head = button.closest("th");
    const descending = head.getAttribute("aria-sort") === "ascending";
    for (const other of document.querySelectorAll("#pairs thead th")) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", descending ? "descending" : "ascending");
    sort(button.dataset.key, descending);
  });
}

let range = null; // of a bar of the histogram
function select() {
  const wanted = $("filter").value.toLowerCase();
  let count = 0;
  for (const row of rows) {
    const score = Number(row.dataset.ssim);
    row.hidden =
      !nameOf(row).toLowerCase().includes(wanted) || (range !== null && !(score >= range[0] && score <= range[1]));
    count += !row.hidden;
  }
  $("count").textContent = `${count} of ${rows.length}`;
  $("all").hidden = count === rows.length;
  for (const bar of document.querySelectorAll(".bar")) {
    bar.setAttribute("aria-pressed", String(range !== null && Number(bar.dataset.low) === range[0]));
  }
}
$("filter").addEventListener("input", select);
$("all").addEventListener("click", () => {
  range = null;
  $("filter").value = "";
  select();
});
for (const bar of document.querySelectorAll(".bar")) {
  bar.addEventListener("click", () => {
    range = bar.getAttribute("aria-pressed") === "true" ? null : [Number(bar.dataset.low), Number(bar.dataset.high)];
    select();
  });
}
select();

/* ---- The viewer ---- */

const viewer = $("viewer");
const digits = JSON.parse($("colours").textContent);
const colours = Array.from({ length: 256 }, (_, i) => [0, 2, 4].map((at) => parseInt(digits.substr(6 * i + at, 2), 16)));
let current = null; // the row that is shown
let picture = null; // what is drawn of it
let turn = 0; // the number of the last call of open(): an older one that is still loading gives up

const visible = () => [...body.rows].filter((row) => !row.hidden);

function load(address) {
  return new Promise((resolve, reject) => {
    const image = new Image();
    image.onload = () => resolve(image);
    image.onerror = () => reject(new Error("a picture of this page cannot be decoded"));
    image.src = address;
  });
}

function pixelsOf(image) {
  const canvas = new OffscreenCanvas(image.naturalWidth, image.naturalHeight);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(image, 0, 0);
  const { data } = context.getImageData(0, 0, canvas.width, canvas.height);
  const grey = new Uint8Array(data.length / 4);
  for (let i = 0; i < grey.length; i++) grey[i] = data[4 * i];
  return { grey, width: canvas.width, height: canvas.height };
}

/* The volume in a sheet of slices, in the order of its axes. */
function volumeOf(image, [slices, height, width]) {
  const sheet = pixelsOf(image);
  const columns = sheet.width / width;
  const volume = new Uint8Array(slices * height * width);
  for (let slice = 0; slice < slices; slice++) {
    const top = Math.floor(slice / columns) * height;
    const left = (slice % columns) * width;
    for (let y = 0; y < height; y++) {
      const start = (top + y) * sheet.width + left;
      volume.set(sheet.grey.subarray(start, start + width), (slice * height + y) * width);
    }
  }
  return volume;
}

/* The planes of a volume: [axis across, axis down, axis that is cut, whether the first row is at the bottom]. */
const PLANES = {
  xyz: [[0, 1, 2, true], [2, 1, 0, true], [0, 2, 1, true]],
  zyx: [[2, 1, 0, false], [0, 1, 2, false], [2, 0, 1, true]],
  dhw: [[2, 1, 0, false], [0, 1, 2, false], [2, 0, 1, false]],
};

function planeOf(volume, size, [across, down, cut, upward], slice) {
  const step = [size[1] * size[2], size[2], 1];
  const width = size[across];
  const height = size[down];
  const found = new Uint8Array(width * height);
  for (let y = 0; y < height; y++) {
    const start = slice * step[cut] + (upward ? height - 1 - y : y) * step[down];
    for (let x = 0; x < width; x++) found[y * width + x] = volume[start + x * step[across]];
  }
  return { grey: found, width, height };
}

/* The low end of the colours, and the value of a code; NaN where there is none. */
const lowEnd = () => ($("fixed").checked ? 0 : picture.low);
const valueOf = (code) => (code === 0 ? NaN : picture.low + ((code - 1) / 254) * (1 - picture.low));

function paint(canvas, { grey, width, height }, isMap) {
  canvas.width = width;
  canvas.height = height;
  const context = canvas.getContext("2d");
  const pixels = context.createImageData(width, height);
  const low = isMap ? lowEnd() : 0;
  const table = new Uint8ClampedArray(1024);
  for (let code = 0; code < 256; code++) {
    if (!isMap) table.set([code, code, code, 255], 4 * code);
    else if (code > 0) {
      const place = Math.round((255 * (valueOf(code) - low)) / (1 - low));
      table.set([...colours[Math.min(Math.max(place, 0), 255)], 255], 4 * code);
    }
  }
  for (let i = 0; i < grey.length; i++) {
    for (let k = 0; k < 4; k++) pixels.data[4 * i + k] = table[4 * grey[i] + k];
  }
  context.putImageData(pixels, 0, 0);
}

function stage(group, upper, lower, ratio) {
  const element = document.createElement("div");
  element.className = "stage";
  element.style.aspectRatio = ratio;
  element.append(upper, lower);
  if (group === "compare") {
    const edge = document.createElement("div");
    edge.className = "edge";
    element.append(edge);
    const follow = (event) => {
      const box = element.getBoundingClientRect();
      setSplit((100 * (event.clientX - box.left)) / box.width);
    };
    element.addEventListener("pointerdown", (event) => {
      element.setPointerCapture(event.pointerId);
      follow(event);
    });
    element.addEventListener("pointermove", (event) => event.buttons & 1 && follow(event));
  }
  $(group).querySelector(".planes").append(element);
  return element;
}

function readValues(element, codes) {
  element.addEventListener("pointermove", (event) => {
    const { grey, width, height } = codes();
    const box = element.getBoundingClientRect();
    const x = Math.min(width - 1, Math.floor(((event.clientX - box.left) / box.width) * width));
    const y = Math.min(height - 1, Math.floor(((event.clientY - box.top) / box.height) * height));
    const value = valueOf(grey[y * width + x]);
    $("under-pointer").textContent = Number.isNaN(value) ? "" : `SSIM ${value.toFixed(4)}`;
  });
  element.addEventListener("pointerleave", () => ($("under-pointer").textContent = ""));
}

function setSplit(percent) {
  $("split").value = percent;
  viewer.style.setProperty("--split", `${$("split").value}%`);
}

async function buildImage(details) {
  const [first, second, under, map] = await Promise.all(
    [details.first, details.second, details.second, details.map].map(load));
  const codes = pixelsOf(map);
  const canvas = document.createElement("canvas");
  first.alt = "first";
  second.alt = under.alt = "second";
  const ratio = `${details.size[1]} / ${details.size[0]}`;
  const place = () => {
    const stages = [stage("compare", first, second, ratio), stage("overlay", under, canvas, ratio)];
    for (const each of stages) each.dataset.width = details.size[1];
    for (const each of stages) each.dataset.height = details.size[0];
    readValues(stages[1], () => codes);
  };
  return { low: details.low, place, draw: () => paint(canvas, codes, true) };
}

/* Where the map is least: the indices along the three axes. */
function worstPlace(map, [, height, width]) {
  let place = 0;
  for (let i = 0; i < map.length; i++) {
    if (map[i] > 0 && (map[i] < map[place] || map[place] === 0)) place = i;
  }
  return [Math.floor(place / (height * width)), Math.floor(place / width) % height, place % width];
}

async function buildVolume(details) {
  const sheets = await Promise.all([details.first, details.second, details.map].map(load));
  const [first, second, map] = sheets.map((sheet) => volumeOf(sheet, details.size));
  const worst = worstPlace(map, details.size);
  const planes = PLANES[details.axes].map((plane) => {
    const [across, down, cut] = plane;
    return { plane, cut, length: details.size[cut], slice: worst[cut], width: details.size[across] * details.spacing[across],
      height: details.size[down] * details.spacing[down], layers: [0, 1, 2, 3].map(() => document.createElement("canvas")) };
  });
  const draw = () => {
    for (const each of planes) {
      const [a, b, c] = [first, second, map].map((volume) => planeOf(volume, details.size, each.plane, each.slice));
      each.codes = c;
      paint(each.layers[0], a, false);
      paint(each.layers[1], b, false);
      paint(each.layers[2], b, false);
      paint(each.layers[3], c, true);
    }
  };
  const place = () => {
    const least = Math.min(...details.spacing);
    for (const each of planes) {
      const ratio = `${each.width} / ${each.height}`;
      const stages = [
        stage("compare", each.layers[0], each.layers[1], ratio),
        stage("overlay", each.layers[2], each.layers[3], ratio),
      ];
      for (const one of stages) one.dataset.width = each.width / least;
      for (const one of stages) one.dataset.height = each.height / least;
      readValues(stages[1], () => each.codes);
      $("slices").append(sliceControl(details, each, draw));
    }
  };
  return { low: details.low, place, draw };
}

function sliceControl(details, each, draw) {
  const label = document.createElement("label");
  label.className = "control";
  const text = document.createElement("span");
  text.className = "value";
  const input = document.createElement("input");
  Object.assign(input, { type: "range", min: 0, max: each.length - 1, value: each.slice });
  const axis = details.axes[each.cut];
  input.setAttribute("aria-label", `slice along ${axis}`);
  const step = Math.ceil(details.full[each.cut] / details.size[each.cut]);
  const show = () => (text.textContent = `${axis} = ${each.slice * step}`);
  input.addEventListener("input", () => {
    each.slice = Number(input.value);
    show();
    draw();
  });
  show();
  label.append(text, input);
  return label;
}

/* The planes of a volume stand so that neighbours share an axis: two above, the third below the first. */
function resize() {
  const zoom = Number($("zoom").value);
  for (const group of document.querySelectorAll(".group")) {
    const stages = [...group.querySelectorAll(".stage")];
    group.querySelector(".planes").classList.toggle("volume", stages.length > 1);
    const [first, right, below] = stages.map((each) => [Number(each.dataset.width), Number(each.dataset.height)]);
    const width = first[0] + (right?.[0] ?? 0);
    const height = first[1] + (below?.[1] ?? 0);
    const scale = zoom || Math.min((group.clientWidth - 6) / width, (0.62 * window.innerHeight) / height);
    for (const each of stages) {
      each.style.width = `${Math.floor(each.dataset.width * scale)}px`;
      each.classList.toggle("large", scale >= 2);
    }
  }
}

function drawScale() {
  const low = lowEnd();
  $("scale-low").textContent = String(Number(low.toFixed(5)));
  const context = $("scale").getContext("2d");
  colours.forEach(([r, g, b], i) => {
    context.fillStyle = `rgb(${r} ${g} ${b})`;
    context.fillRect(i, 0, 1, 1);
  });
}

async function open(row) {
  const mine = ++turn;
  current = row;
  const details = JSON.parse(row.querySelector(".details").textContent);
  $("viewer-name").textContent = nameOf(row);
  const heads = [...document.querySelectorAll("#pairs thead th")].map((head) => head.textContent);
  const cells = [...row.cells].slice(2, -2).map((cell, i) => `${heads[i + 1]} ${cell.textContent}`);
  $("viewer-scores").textContent = cells.join(" · ");
  $("about").replaceChildren(row.querySelector("template").content.cloneNode(true));
  for (const list of document.querySelectorAll("#viewer .planes, #slices")) list.replaceChildren();
  $("quality").textContent = "";
  const hasPicture = details.kind !== undefined;
  document.querySelector(".groups").hidden = !hasPicture;
  if (!viewer.open) viewer.showModal();
  if (!hasPicture) return;
  const built = await (details.kind === "volume" ? buildVolume : buildImage)(details);
  if (mine !== turn) return;
  picture = built;
  picture.place();
  picture.draw();
  drawScale();
  resize();
  const step = Math.ceil(details.full[0] / details.size[0]);
  $("quality").textContent =
    (step > 1 ? `Shown at 1/${step} of its size. ` : "") +
    (details.lossless ? "" : "The pictures are compressed for this page with small losses; the scores are those of the files.");
  viewer.dataset.shown = row.dataset.number;
  $("split").focus({ preventScroll: true });
}

function move(by) {
  const list = visible();
  const next = list[list.indexOf(current) + by];
  if (next) open(next);
}

body.addEventListener("click", (event) => {
  const row = event.target.closest("tr");
  if (row && String(window.getSelection()) === "") open(row);
});
$("open-worst")?.addEventListener("click", () => open(rows[0]));
$("close").addEventListener("click", () => viewer.close());
viewer.addEventListener("close", () => {
  turn++;
  current?.querySelector(".open").focus();
});
$("previous").addEventListener("click", () => move(-1));
$("next").addEventListener("click", () => move(1));
$("split").addEventListener("input", () => setSplit($("split").value));
$("opacity").addEventListener("input", () => viewer.style.setProperty("--opacity", $("opacity").value / 100));
$("fixed").addEventListener("change", () => {
  if (!picture) return;
  drawScale();
  picture.draw();
});
$("zoom").addEventListener("change", resize);
window.addEventListener("resize", () => viewer.open && resize());
viewer.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "n") move(1);
  else if (event.key === "p") move(-1);
  else if (event.key === "m") {
    $("opacity").value = $("opacity").value > 0 ? 0 : 70;
    $("opacity").dispatchEvent(new Event("input"));
  } else return;
  event.preventDefault();
});
