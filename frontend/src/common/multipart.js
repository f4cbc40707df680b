// Answers of several byte ranges (RFC 9110, section 14.6), taken apart.

const decoder = new TextDecoder("latin1");
const MAX_HEAD_BYTES = 1024;

// Returns the parts of a 206, {start, bytes} each; the bytes are views of `body`.
export function splitByteRanges(body, headers) {
  const boundary = /^multipart\/byteranges;.*boundary="?([^";]+)"?/i.exec(headers.get("Content-Type") ?? "");
  if (boundary === null) {
    return [{ start: findStart(headers.get("Content-Range"), body.length), bytes: body }];
  }
  const parts = [];
  const delimiter = `--${boundary[1]}`;
  let position = 0;
  for (;;) {
    const head = decoder.decode(body.subarray(position, position + MAX_HEAD_BYTES));
    const begin = head.startsWith("\r\n") ? 2 : 0;
    if (!head.startsWith(delimiter, begin)) {
      throw new Error("The server's answer of several ranges cannot be understood.");
    }
    if (head.startsWith("--", begin + delimiter.length)) {
      return parts;
    }
    const end = head.indexOf("\r\n\r\n", begin);
    const range = /^content-range: *bytes (\d+)-(\d+)\//im.exec(head.slice(begin, end));
    if (end < 0 || range === null) {
      throw new Error("The server's answer of several ranges cannot be understood.");
    }
    const start = Number(range[1]);
    const length = Number(range[2]) - start + 1;
    position += end + 4;
    parts.push({ start, bytes: body.subarray(position, position + length) });
    position += length;
  }
}

function findStart(contentRange, length) {
  const range = /^bytes (\d+)-(\d+)\//.exec(contentRange ?? "");
  if (range === null || Number(range[2]) - Number(range[1]) + 1 !== length) {
    throw new Error("The server's answer does not say which part of the file it is.");
  }
  return Number(range[1]);
}
