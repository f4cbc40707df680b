// The arrays of a Zarr hierarchy, of version 2 or 3: by its consolidated metadata, else by looking into its folders.
//
// https://zarr-specs.readthedocs.io/

import { listFolder } from "../common/answers.js";
import { readJson, resolve } from "./store.js";

const MAX_NODES = 2000;
const MAX_LISTINGS = 200;

// Returns { arrays, attributes, version, isComplete } of a folder: arrays are { path, folder, known, version, attributes }, where
// `known` has their metadata by the names of their files.
export async function readHierarchy(folder) {
  const three = await readJson(new URL("zarr.json", folder));
  if (three !== null) {
    return readThree(folder, three);
  }
  const consolidated = await readJson(new URL(".zmetadata", folder));
  if (isObject(consolidated?.metadata)) {
    return readConsolidated(folder, consolidated.metadata);
  }
  const node = await readTwo(folder, "");
  if (node === null) {
    throw new Error("This folder has no metadata of Zarr: neither zarr.json nor .zarray, .zgroup or .zmetadata.");
  }
  return node.isArray ? of([node], node.attributes, 2) : walk(folder, node.attributes, 2);
}

function of(arrays, attributes, version, isComplete = true) {
  const sorted = arrays.sort((one, other) => one.path.localeCompare(other.path, "en", { numeric: true }));
  return { arrays: sorted.slice(0, MAX_NODES), attributes, version, isComplete: isComplete && sorted.length <= MAX_NODES };
}

async function readThree(folder, metadata) {
  if (metadata.node_type === "array") {
    return of([makeThree(folder, "", metadata)], metadata.attributes ?? {}, 3);
  }
  const known = metadata.consolidated_metadata?.metadata;
  if (!isObject(known)) {
    return walk(folder, metadata.attributes ?? {}, 3);
  }
  const arrays = Object.entries(known)
    .filter(([, each]) => isObject(each) && each.node_type === "array")
    .map(([path, each]) => makeThree(folder, path, each));
  return of(arrays, metadata.attributes ?? {}, 3);
}

function makeThree(folder, path, metadata) {
  return { path, folder: folderOf(folder, path), known: { "zarr.json": metadata }, version: 3, isArray: true, attributes: metadata.attributes ?? {} };
}

function makeTwo(folder, path, array, attributes) {
  return { path, folder: folderOf(folder, path), known: { ".zarray": array, ".zattrs": attributes }, version: 2, isArray: true, attributes };
}

function folderOf(folder, path) {
  const url = resolve(folder, path);
  return url.pathname.endsWith("/") ? url : new URL(`${url.pathname}/`, url);
}

function readConsolidated(folder, metadata) {
  const arrays = Object.entries(metadata)
    .filter(([key, value]) => (key === ".zarray" || key.endsWith("/.zarray")) && isObject(value))
    .map(([key, value]) => {
      const path = key.slice(0, -".zarray".length).replace(/\/$/, "");
      return makeTwo(folder, path, value, metadata[path === "" ? ".zattrs" : `${path}/.zattrs`] ?? {});
    });
  return of(arrays, metadata[".zattrs"] ?? {}, 2);
}

async function readTwo(folder, path) {
  const array = await readJson(new URL(".zarray", folder));
  const group = array === null ? await readJson(new URL(".zgroup", folder)) : null;
  if (array === null && group === null) {
    return null;
  }
  const attributes = (await readJson(new URL(".zattrs", folder))) ?? {};
  return array === null ? { isArray: false, attributes } : makeTwo(folder, path, array, attributes);
}

// Looks into the folders of a group, as far as the server lists them.
async function walk(folder, attributes, version) {
  const arrays = [];
  const groups = [{ path: "", folder }];
  let isComplete = true;
  for (let count = 0; groups.length > 0; count += 1) {
    const group = groups.shift();
    const entries = count < MAX_LISTINGS ? await listFolder(group.folder) : null;
    if (entries === null) {
      isComplete = false;
      if (count === 0) {
        arrays.push(...(await findNamed(folder, attributes, version)));
      }
      continue;
    }
    for (const { name } of entries.filter(({ isFolder }) => isFolder)) {
      const path = group.path === "" ? name : `${group.path}/${name}`;
      const child = folderOf(folder, path);
      const node = version === 3 ? await readThreeNode(folder, child, path) : await readTwo(child, path);
      if (node?.isArray) {
        arrays.push(node);
      } else {
        groups.push({ path, folder: child }); // A group need not have metadata of its own.
      }
    }
  }
  return of(arrays, attributes, version, isComplete);
}

async function readThreeNode(folder, child, path) {
  const metadata = await readJson(new URL("zarr.json", child));
  if (metadata === null) {
    return null;
  }
  return metadata.node_type === "array" ? makeThree(folder, path, metadata) : { isArray: false };
}

// Returns the arrays that the attributes of a group name, as those of OME-NGFF do.
async function findNamed(folder, attributes, version) {
  const found = [];
  for (const { path } of findScales(attributes)?.datasets ?? []) {
    const child = folderOf(folder, path);
    const node = version === 3 ? await readThreeNode(folder, child, path) : await readTwo(child, path);
    if (node?.isArray) {
      found.push(node);
    }
  }
  return found;
}

// Returns the first of the multiscales of OME-NGFF: { datasets: [{ path }], axes: names or null }; null where there are none.
export function findScales(attributes) {
  const scales = (attributes.ome?.multiscales ?? attributes.multiscales)?.[0];
  if (!isObject(scales) || !Array.isArray(scales.datasets)) {
    return null;
  }
  const datasets = scales.datasets.filter((each) => typeof each?.path === "string");
  const axes = Array.isArray(scales.axes) ? scales.axes.map((axis) => String(axis?.name ?? axis)) : null;
  return { datasets, axes };
}

function isObject(value) {
  return value !== null && typeof value === "object" && !Array.isArray(value);
}
