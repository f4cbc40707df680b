// What a preview shows: the file or folder that ?url= names, which must be one of this relay's.

// Preview pages are at {route}/{key of the static files}/preview/NAME.html, whatever stands in front.
const route = new URL("../../", location.href);

// Returns the URL that the page's address names; throws an Error whose message is for the person who reads it.
export function findSource() {
  const given = new URLSearchParams(location.search).get("url");
  if (!given) {
    throw new Error("Name what is to be shown in this page's address: ?url=../../KEY/NAME");
  }
  let source;
  try {
    source = new URL(given, location.href);
  } catch {
    throw new Error(`“${given}” is no URL.`);
  }
  if (!isOfRelay(source)) {
    throw new Error("A preview shows files of its own relay server only.");
  }
  return source;
}

// Whether `url` is of this relay; what data files say must not have the page ask for anything else with the login of
// whoever looks at it.
export function isOfRelay(url) {
  return url.origin === route.origin && url.pathname.startsWith(route.pathname);
}

// Whether `url` is `folder` or below it.
export function isBelow(url, folder) {
  return url.origin === folder.origin && url.pathname.startsWith(folder.pathname);
}

// Returns the last name in a URL's path, as people read it.
export function nameOf(url) {
  const segment = url.pathname.split("/").filter(Boolean).at(-1) ?? "";
  try {
    return decodeURIComponent(segment);
  } catch {
    return segment; // Bytes that are no UTF-8.
  }
}

// From now on the page cannot read anything but what is below the relay's route, whatever happens to it: a policy that
// is added later holds together with those that are there (https://www.w3.org/TR/CSP3/, section 3.3).
export function confineToRelay() {
  const allowed = route.href.replaceAll(";", "%3B").replaceAll(",", "%2C");
  const policy = document.createElement("meta");
  policy.httpEquiv = "Content-Security-Policy";
  policy.content = [
    `connect-src ${allowed}`,
    `img-src ${allowed} blob: data:`,
    `media-src ${allowed} blob:`,
    `script-src ${new URL("../", location.href).href.replaceAll(";", "%3B").replaceAll(",", "%2C")} 'wasm-unsafe-eval'`,
    "worker-src blob:",
    "base-uri 'none'",
    "form-action 'none'",
    "object-src 'none'",
  ].join("; ");
  document.head.append(policy);
}

// Returns how many folders, that of the key among them, a folder's URL names.
export function depthOf(folder) {
  return folder.pathname.slice(route.pathname.length).split("/").filter(Boolean).length;
}
