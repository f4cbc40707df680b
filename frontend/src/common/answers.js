// Answers of the server: their bodies, up to a size, and what they say where they are none of what was asked for.

import { countBytes, formatBytes } from "./page.js";
import { readStream } from "./streams.js";

const MAX_LIST_BYTES = 64 * 1024 * 1024;

// Returns an answer's body; `what` names it where it is larger than `maxBytes`.
export async function readBody(answer, maxBytes, what) {
  const body = await readStream(answer.body, maxBytes, () => new Error(`${what} is larger than the ${formatBytes(maxBytes)} that it can be.`));
  countBytes(body.length);
  return body;
}

// Returns the Error that an answer means: the server's own sentence, where it has one.
export async function explain(answer, what) {
  return new Error((await answer.text()).trim() || `${what} cannot be read (status ${answer.status}).`);
}

// Returns the entries of a folder, {name, isFolder}; null where the server does not list it.
export async function listFolder(folder) {
  const answer = await fetch(new URL("?format=json", folder));
  if (!answer.ok && answer.status !== 403) {
    await answer.body?.cancel();
    throw new Error(`The folder cannot be read (status ${answer.status}).`);
  }
  if (!answer.ok || !(answer.headers.get("Content-Type") ?? "").startsWith("application/json")) {
    await answer.body?.cancel();
    return null;
  }
  const { entries } = JSON.parse(new TextDecoder().decode(await readBody(answer, MAX_LIST_BYTES, "The list of the folder")));
  return Array.isArray(entries) ? entries.map(({ name, type }) => ({ name: String(name), isFolder: type === "folder" })) : null;
}
