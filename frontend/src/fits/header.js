// The header of a part of a FITS file (FITS Standard 4.0, section 4): cards of 80 characters.

export const BLOCK_BYTES = 2880;
const CARD_BYTES = 80;

// Few headers have a hundred blocks.
const MAX_HEADER_BYTES = 2000 * BLOCK_BYTES;
const FIRST_BYTES = 4 * BLOCK_BYTES;

const decoder = new TextDecoder("latin1");

export class Header {
  #values = new Map();

  constructor(cards, size) {
    this.cards = cards;
    this.size = size;
    for (const { keyword, value } of cards) {
      if (value !== null && !this.#values.has(keyword)) {
        this.#values.set(keyword, value);
      }
    }
  }

  has(keyword) {
    return this.#values.has(keyword);
  }

  text(keyword, otherwise = "") {
    const value = this.#values.get(keyword);
    return typeof value === "string" ? value : otherwise;
  }

  number(keyword, otherwise = NaN) {
    const value = this.#values.get(keyword);
    return typeof value === "number" ? value : otherwise;
  }

  isTrue(keyword) {
    return this.#values.get(keyword) === true;
  }

  // Returns a count, such as an axis has; throws where the header has none.
  count(keyword, otherwise) {
    const value = this.#values.has(keyword) ? this.#values.get(keyword) : otherwise;
    if (!Number.isSafeInteger(value) || value < 0) {
      throw new Error(`The header's ${keyword} is ${value === undefined ? "missing" : `“${value}”`}, and not a count.`);
    }
    return value;
  }
}

// Reads the header at `offset` of a file; null where there is none.
export async function readHeader(file, offset) {
  let length = FIRST_BYTES;
  for (;;) {
    const bytes = await (offset + length <= 65536 ? file.read(offset, length) : file.readPart(offset, length));
    const text = decoder.decode(bytes);
    if (!/^(SIMPLE  =|XTENSION=)/.test(text)) {
      return null;
    }
    const end = findEnd(text);
    if (end >= 0) {
      return new Header(parseCards(text.slice(0, end)), Math.ceil((end + CARD_BYTES) / BLOCK_BYTES) * BLOCK_BYTES);
    }
    if (offset + length >= file.size) {
      throw new Error("The file ends within a header: it is cut, or no FITS file.");
    }
    if (length >= MAX_HEADER_BYTES) {
      throw new Error(`A header has no END within ${MAX_HEADER_BYTES / 1e6} MB.`);
    }
    length = Math.min(4 * length, MAX_HEADER_BYTES);
  }
}

function findEnd(text) {
  for (let start = 0; start + CARD_BYTES <= text.length; start += CARD_BYTES) {
    if (text.startsWith("END     ", start)) {
      return start;
    }
  }
  return -1;
}

// Returns the cards, {keyword, value, comment} each; the value is a boolean, a number, a text, or null where there is none.
export function parseCards(text) {
  const cards = [];
  for (let start = 0; start < text.length; start += CARD_BYTES) {
    const card = text.slice(start, start + CARD_BYTES);
    const last = cards.at(-1);
    if (card.startsWith("CONTINUE") && typeof last?.value === "string" && last.value.endsWith("&")) {
      const more = parseValue(card.slice(10));
      last.value = last.value.slice(0, -1) + (typeof more.value === "string" ? more.value : "");
      last.comment = [last.comment, more.comment].filter(Boolean).join(" ");
    } else if (card.trim() !== "") {
      cards.push(parseCard(card));
    }
  }
  return cards;
}

function parseCard(card) {
  const keyword = card.slice(0, 8).trimEnd();
  if (card.startsWith("= ", 8)) {
    return { keyword, ...parseValue(card.slice(10)) };
  }
  const long = /^HIERARCH +([^=']+?) *=(.*)$/.exec(card);
  if (long !== null) {
    return { keyword: long[1], ...parseValue(long[2]) };
  }
  return { keyword, value: null, comment: card.slice(8).trim() };
}

function parseValue(field) {
  const quoted = /^ *'((?:[^']|'')*)'/.exec(field);
  if (quoted !== null) {
    const comment = field.slice(quoted[0].length).replace(/^[^/]*\//, "").trim();
    return { value: quoted[1].replaceAll("''", "'").trimEnd(), comment };
  }
  const slash = field.indexOf("/");
  const written = (slash < 0 ? field : field.slice(0, slash)).trim();
  const comment = slash < 0 ? "" : field.slice(slash + 1).trim();
  if (written === "T" || written === "F") {
    return { value: written === "T", comment };
  }
  if (/^[+-]?(\d+\.?\d*|\.\d+)([EeDd][+-]?\d+)?$/.test(written)) {
    return { value: Number(written.replace(/[Dd]/, "e")), comment };
  }
  return { value: written === "" ? null : written, comment };
}
