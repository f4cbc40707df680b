// Shows the arrays of a Zarr hierarchy, a slice at a time, of which only the chunks that are seen are read.

import { forgetAllBut, recall, remember } from "./common/address.js";
import { element, fail, run, say } from "./common/page.js";
import { ZarrArray } from "./zarr/array.js";
import { findScales, readHierarchy } from "./zarr/hierarchy.js";
import { SliceView } from "./zarr/slices.js";

const METADATA = /\/(zarr\.json|\.z(array|attrs|group|metadata))$/;

// What is seen whole at first, of several sizes of one picture.
const FIRST_SIDE = 1024;

const view = document.getElementById("view");

run(async (source) => {
  const hierarchy = await readHierarchy(findFolder(source));
  const { arrays } = hierarchy;
  if (arrays.length === 0) {
    throw new Error(
      hierarchy.isComplete
        ? "This group has no arrays."
        : "This group does not say which arrays it has (it has no consolidated metadata): name the folder of one of them.",
    );
  }
  const scales = findScales(hierarchy.attributes);
  const stage = element("div", { className: "stage" });
  const list = listArrays(hierarchy);
  view.append(element("div", { className: "zarr" }, ...(arrays.length > 1 ? [list.box] : []), stage));

  const choose = async (path) => {
    const node = arrays.find((each) => each.path === path);
    list.mark(path);
    stage.replaceChildren();
    return new SliceView(stage, await ZarrArray.open(node, scales?.axes));
  };
  let shown = null;
  list.chosen = async (path) => {
    shown?.close();
    say("loading", "Reading …");
    forgetAllBut(["url", "colours", "stretch"]);
    remember({ array: path });
    try {
      shown = await choose(path);
      await shown.show();
    } catch (error) {
      fail(error);
    }
  };
  const given = arrays.some(({ path }) => path === recall("array")) ? recall("array") : null;
  const first = given ?? firstOf(arrays, scales);
  if (arrays.length > 1) {
    remember({ array: first });
  }
  shown = await choose(first);
  return shown.show();
});

function findFolder(source) {
  const folder = new URL(source);
  folder.search = "";
  if (METADATA.test(folder.pathname)) {
    return new URL("./", folder);
  }
  folder.pathname = folder.pathname.replace(/\/?$/, "/");
  return folder;
}

// Returns the path of the array that is shown first: of several sizes of a picture the largest that can be seen whole, else
// the one with the most axes, and of those the largest.
function firstOf(arrays, scales) {
  const shapeOf = ({ known }) => (known["zarr.json"] ?? known[".zarray"]).shape ?? [];
  const sizes = (scales?.datasets ?? []).map(({ path }) => arrays.find((each) => each.path === path)).filter(Boolean);
  if (sizes.length > 0) {
    const fits = (node) => shapeOf(node).slice(-2).every((side) => side <= FIRST_SIDE);
    return (sizes.find(fits) ?? sizes.at(-1)).path;
  }
  const sizeOf = (node) => shapeOf(node).reduce((product, side) => product * side, 1);
  return [...arrays].sort((one, other) => shapeOf(other).length - shapeOf(one).length || sizeOf(other) - sizeOf(one))[0].path;
}

function listArrays({ arrays, isComplete }) {
  const isWide = matchMedia("(min-width: 700px)").matches;
  const buttons = new Map();
  const list = { chosen: () => {} };
  for (const { path, known } of arrays) {
    const { shape } = known["zarr.json"] ?? known[".zarray"];
    const told = Array.isArray(shape) ? shape.map((side) => Number(side).toLocaleString("en")).join(" × ") : "";
    const button = element("button", { type: "button" }, element("span", {}, path || "(this array)"), element("small", {}, told || "one value"));
    button.addEventListener("click", () => list.chosen(path));
    buttons.set(path, button);
  }
  list.box = element(
    "details",
    { className: "arrays", open: isWide },
    element("summary", {}, `Arrays (${arrays.length})`),
    element("ul", {}, ...[...buttons.values()].map((button) => element("li", {}, button))),
    ...(isComplete ? [] : [element("p", { className: "hint" }, "There may be more: not all folders are listed.")]),
  );
  list.mark = (path) => buttons.forEach((button, each) => button.setAttribute("aria-current", String(each === path)));
  return list;
}
