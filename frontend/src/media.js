// Shows an image, or plays audio or video, by what the browser itself can do; seeking reads by ranges.

import { countBytes, element, formatBytes, run, say } from "./common/page.js";
import { nameOf } from "./common/source.js";

const view = document.getElementById("view");

run(async (source) => {
  const { type, size } = await describe(source);
  document.getElementById("facts").textContent = [type, size === null ? "" : formatBytes(size)].filter(Boolean).join(" · ");
  if (type.startsWith("image/")) {
    return showImage(source);
  }
  if (type.startsWith("audio/") || type.startsWith("video/")) {
    return play(source, type.startsWith("audio/") ? "audio" : "video");
  }
  throw new Error(`This is ${type || "of no known type"}, which is neither an image nor audio nor video.`);
});

async function describe(source) {
  const answer = await fetch(source, { method: "HEAD" });
  if (!answer.ok) {
    throw new Error(`The file cannot be read (status ${answer.status}).`);
  }
  const length = answer.headers.get("Content-Length");
  return {
    type: (answer.headers.get("Content-Type") ?? "").split(";")[0],
    size: length === null ? null : Number(length),
  };
}

async function showImage(source) {
  const image = element("img", { alt: nameOf(source), className: "media" });
  image.src = source.href;
  await image.decode().catch(() => {
    throw new Error("The browser cannot show this image.");
  });
  view.append(image);
  countBytes(performance.getEntriesByName(source.href).at(-1)?.encodedBodySize ?? 0);
  return `${image.naturalWidth} × ${image.naturalHeight} pixels`;
}

async function play(source, kind) {
  const player = element(kind, { controls: true, preload: "metadata", className: "media", src: source.href });
  player.setAttribute("aria-label", nameOf(source));
  view.append(player);
  await new Promise((resolve, reject) => {
    player.addEventListener("loadedmetadata", resolve, { once: true });
    player.addEventListener("error", () => reject(new Error("The browser cannot play this file.")), { once: true });
  });
  player.addEventListener("error", () => say("failed", "The browser cannot play this file on."));
  const minutes = Math.floor(player.duration / 60);
  const seconds = Math.floor(player.duration % 60);
  return Number.isFinite(player.duration) ? `${minutes}:${String(seconds).padStart(2, "0")}` : "";
}
