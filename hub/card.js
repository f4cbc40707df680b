// Puts the buttons where a card, or a table, in a notebook has a place for them, and says what is not published any more.
(() => {
  // Pages of Jupyter say where its server is. A copy of the notebook elsewhere does not; there is nothing to revoke there.
  if (!document.getElementById("jupyter-config-data") && !document.body.dataset.baseUrl) return;

  const wait = "[data-kdr-key]:not([data-kdr-live])";

  async function revoke(url) {
    const xsrf = document.cookie.match(/(?:^|; )_xsrf=([^;]*)/);
    const headers = { Accept: "application/json", ...(xsrf && { "X-XSRFToken": xsrf[1] }) };
    try {
      // Who is logged out would be led to the login's page.
      return (await fetch(url, { method: "DELETE", headers, redirect: "manual" })).status;
    } catch {
      return 0;
    }
  }

  // What a notebook of somebody else's says must lead nowhere else.
  function addressOf(at, page) {
    try {
      const url = new URL(`${at}${page}`, document.baseURI);
      return url.origin === location.origin && url.pathname.endsWith(`/${page}`) ? url : null;
    } catch {
      return null;
    }
  }

  function end(entry, sentence) {
    entry.classList.add("kdr-ended");
    entry.querySelector("details")?.removeAttribute("open");
    entry.querySelector(".kdr-act > button")?.remove();
    const words = entry.querySelector(".kdr-act > [role=status]");
    if (words) words.textContent = sentence;
  }

  // Keys may have been revoked elsewhere, or long before the notebook was opened again.
  async function look(at) {
    const url = addressOf(at, "_status");
    if (!url) return;
    url.search = "format=json";
    let told;
    try {
      const answer = await fetch(url, { headers: { Accept: "application/json" }, redirect: "manual" });
      if (!answer.ok) return;
      told = await answer.json();
    } catch {
      return; // Whoever cannot be asked says nothing of what is published.
    }
    const live = new Set();
    for (const { key, expires_at } of told.registrations) {
      if (expires_at === null || expires_at > told.now) live.add(key);
    }
    for (const entry of document.querySelectorAll("[data-kdr-live]:not(.kdr-ended)")) {
      if (entry.dataset.kdrAt === at && !live.has(entry.dataset.kdrKey)) end(entry, "Not published any more");
    }
  }

  const added = document.querySelectorAll(wait);
  for (const entry of added) {
    entry.dataset.kdrLive = "";
    const { kdrKey: key, kdrAt: at, kdrElse: remedy, kdrName: name } = entry.dataset;
    const place = entry.querySelector(".kdr-act");
    const url = addressOf(at, "_api/registrations");
    if (!place || !url) continue;
    url.search = new URLSearchParams({ key });
    const button = document.createElement("button");
    button.type = "button";
    button.className = "kdr-button";
    button.textContent = "Revoke";
    button.setAttribute("aria-label", `Revoke ${name}`);
    const said = document.createElement("span");
    said.setAttribute("role", "status");
    place.replaceChildren(button, said);
    button.addEventListener("click", async () => {
      button.disabled = true;
      said.textContent = "";
      const status = await revoke(url);
      if (status === 200) {
        for (const same of document.querySelectorAll("[data-kdr-live]")) {
          if (same.dataset.kdrKey === key && same.dataset.kdrAt === at) end(same, "Revoked");
        }
        return;
      }
      const reason =
        status === 404
          ? "Nothing of yours is published under this key any more."
          : `Not revoked${status ? ` (status ${status})` : ""}; call ${remedy} in a cell.`;
      said.textContent = reason;
      button.disabled = status === 404;
    });
  }

  // A notebook that is opened runs this for each of its outputs; one question is enough.
  const asked = (document.kdrAsked ??= new Map());
  for (const at of new Set(Array.from(added, (entry) => entry.dataset.kdrAt))) {
    clearTimeout(asked.get(at));
    if (!asked.has(at)) {
      document.addEventListener("visibilitychange", () => document.hidden || look(at));
    }
    asked.set(at, setTimeout(look, 500, at));
  }

  // JupyterLab says which theme it has; a preview that is not loaded yet takes it over.
  const isLight = document.body.dataset.jpThemeLight;
  for (const frame of isLight ? document.querySelectorAll(".kdr-preview:not([open]) iframe") : []) {
    const url = new URL(frame.src);
    url.searchParams.set("theme", isLight === "false" ? "dark" : "light");
    if (url.href !== frame.src) frame.src = url.href;
  }
})();
