// The frame of every preview page: its title, what it is doing, what went wrong, and how much it has read.
//
// What the page is doing stands in data-state of the html element: "loading", "ready" or "failed"; how many bytes it has
// read in data-bytes.

import { confineToRelay, depthOf, findSource, nameOf } from "./source.js";
import { applyTheme } from "./theme.js";

const root = document.documentElement;
let readBytes = 0;

// Runs `show(source)` and tells how it went; `show` returns the sentence that says what is seen, or nothing.
export async function run(show) {
  applyTheme();
  say("loading", "Reading …");
  try {
    confineToRelay();
    const source = findSource();
    describe(source);
    const sentence = await show(source);
    say("ready", sentence ?? "");
  } catch (error) {
    fail(error);
  }
}

export function say(state, sentence) {
  root.dataset.state = state;
  document.getElementById("status").textContent = sentence;
}

export function fail(error) {
  say("failed", error instanceof Error ? error.message : String(error));
}

// Counts bytes that were read for the preview.
export function countBytes(count) {
  readBytes += count;
  root.dataset.bytes = String(readBytes);
  const counter = document.getElementById("read");
  if (counter !== null) {
    counter.textContent = `${formatBytes(readBytes)} read`;
  }
}

export function formatBytes(count) {
  if (count < 1000) {
    return `${count} bytes`;
  }
  const units = ["kB", "MB", "GB", "TB", "PB"];
  const power = Math.min(Math.floor(Math.log10(count) / 3), units.length);
  return `${(count / 1000 ** power).toPrecision(3)} ${units[power - 1]}`;
}

// Returns a new element with properties, attributes (those with a dash, and role) and children.
export function element(name, properties = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (key.includes("-") || key === "role" || key === "for") {
      made.setAttribute(key, value);
    } else {
      made[key] = value;
    }
  }
  made.append(...children);
  return made;
}

// Returns a list of facts; what has no value is left out.
export function factList(facts) {
  const list = element("dl");
  for (const [name, value] of facts) {
    if (value !== null && value !== undefined && value !== "") {
      list.append(element("dt", {}, name), element("dd", {}, String(value)));
    }
  }
  return list;
}

function describe(source) {
  const name = nameOf(source);
  document.title = `${name} · preview`;
  document.getElementById("name").textContent = name;
  const links = document.getElementById("links");
  const isFolder = source.pathname.endsWith("/");
  const folder = isFolder ? source : new URL("./", source);
  if (isFolder || hasListing(folder)) {
    links.append(element("a", { href: folder.href }, "Folder"));
  }
  if (!isFolder) {
    links.append(element("a", { href: source.href, download: name }, "Download"));
  }
}

// Whether there is a page of the folder of a file: of one that was published alone there is none, and its URL is
// that of a file in the topmost folder of a tree.
function hasListing(folder) {
  return depthOf(folder) > 1 || document.referrer.split("?")[0] === folder.href;
}
