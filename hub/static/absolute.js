// Makes the partial URLs that hub returns absolute, for widgets and pages: they have neither scheme nor host, since the
// kernel cannot know under which the browser reaches its server.

// Returns `partial` as an absolute URL, or throws a TypeError that says what is missing.
export function absoluteURL(partial) {
  const base = jupyterURL() ?? pageURL() ?? moduleURL();
  if (base === null) {
    throw new TypeError(`The page has no address that could complete ${partial}; load this module from the relay.`);
  }
  return new URL(partial, base).href;
}

// JupyterLab and Notebook say where their server is, which may be another host than the page's.
function jupyterURL() {
  const configuration = globalThis.document?.getElementById("jupyter-config-data");
  if (!configuration) {
    return null;
  }
  const { baseUrl } = JSON.parse(configuration.textContent);
  return baseUrl ? onTheWeb(new URL(baseUrl, document.baseURI)) : null;
}

function pageURL() {
  return globalThis.document ? onTheWeb(new URL(document.baseURI)) : null;
}

function moduleURL() {
  return onTheWeb(new URL(import.meta.url));
}

// Nothing is relative to blob:, data: and about: URLs, in which widgets may live.
function onTheWeb(url) {
  return ["http:", "https:"].includes(url.protocol) ? url : null;
}
