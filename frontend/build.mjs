// Bundles the preview pages with the libraries that they need into hub/static/preview, from which the wheel takes them.
//
// What it writes is kept in the repository, so that an installation needs no Node; a test builds it again and compares.

import { build } from "esbuild";
import { mkdir, readFile, readdir, rm, writeFile } from "node:fs/promises";
import path from "node:path";
import { fileURLToPath } from "node:url";

const here = path.dirname(fileURLToPath(import.meta.url));
const target = path.resolve(here, process.argv[2] ?? "../hub/static/preview");

async function main() {
  await rm(target, { recursive: true, force: true });
  await mkdir(target, { recursive: true });
  const sources = (await readdir(path.join(here, "src"))).filter((name) => name.endsWith(".js"));
  const styles = (await readdir(path.join(here, "page"))).filter((name) => name.endsWith(".css"));
  const template = await readFile(path.join(here, "page", "page.html"), "utf8");
  for (const name of sources.map((source) => path.basename(source, ".js"))) {
    const style = styles.includes(`${name}.css`) ? `<link rel="stylesheet" href="${name}.css">\n` : "";
    const page = template.replace("NAME_CSS", style).replaceAll("NAME", name);
    await writeFile(path.join(target, `${name}.html`), page);
  }
  const { metafile } = await build({
    entryPoints: [...sources.map((name) => `src/${name}`), ...styles.map((name) => `page/${name}`)].sort(),
    entryNames: "[name]",
    absWorkingDir: here,
    outdir: target,
    bundle: true,
    splitting: true,
    format: "esm",
    target: "es2022",
    minify: true,
    legalComments: "none",
    metafile: true,
    chunkNames: "parts/[name]-[hash]",
    assetNames: "parts/[name]-[hash]",
    plugins: [replaced],
    loader: { ".png": "dataurl", ".svg": "dataurl", ".wasm": "binary" },
    logLevel: "warning",
  });
  await writeFile(path.join(target, "LICENSES.txt"), await collectLicences(Object.keys(metafile.inputs)));
}

// What the pages' policy forbids, or what is never used and would be passed on nevertheless.
const replaced = {
  name: "replaced",
  setup({ onLoad }) {
    // It fetches its code from a data: URL.
    onLoad({ filter: /zstddec-stream\.modern\.js$/ }, async ({ path: file }) => {
      const text = await readFile(file, "utf8");
      const changed = text
        .replace("typeof fetch !== 'undefined'", "false")
        .replace("Buffer.from(wasm, 'base64')", "Uint8Array.from(atob(wasm), (letter) => letter.charCodeAt(0))");
      if (/typeof fetch|Buffer\.from/.test(changed)) {
        throw new Error("zstddec has changed: see how it finds its code now.");
      }
      return { contents: changed };
    });
    // src/map/decoders.js and src/zarr/codecs.js have others.
    const unused = /(geotiff\/dist-module\/compression\/(deflate|lerc|zstd)|numcodecs\/dist\/(blosc|lz4|zstd))\.js$/;
    onLoad({ filter: unused }, () => ({ contents: "export default null" }));
  },
};

// Returns the licences of the packages of which something was bundled.
async function collectLicences(inputs) {
  const folders = new Set();
  for (const input of inputs) {
    const found = /^(?:.*\/)?node_modules\/(?:@[^/]+\/)?[^/]+/.exec(input);
    if (found) {
      folders.add(found[0]);
    }
  }
  const texts = [];
  for (const folder of [...folders].sort()) {
    const about = JSON.parse(await readFile(path.join(here, folder, "package.json"), "utf8"));
    const files = (await readdir(path.join(here, folder))).filter((name) => /^(licen[cs]e|notice|copying)/i.test(name));
    if (files.length === 0 && !about.license) {
      throw new Error(`${about.name} has no licence that could be passed on.`);
    }
    const licence = await Promise.all(files.sort().map((name) => readFile(path.join(here, folder, name), "utf8")));
    texts.push(`${about.name} ${about.version} (${about.license})\n\n${licence.join("\n\n").trim()}\n`);
  }
  return `The pages of this folder bundle parts of these packages.\n\n${texts.join(`\n${"-".repeat(78)}\n\n`)}`;
}

await main();
