// Puts the buttons where a card, or a table, in a notebook has a place for them.
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
  function addressOf(at) {
    try {
      const url = new URL(`${at}_api/registrations`, document.baseURI);
      return url.origin === location.origin && url.pathname.endsWith("/_api/registrations") ? url : null;
    } catch {
      return null;
    }
  }

  for (const entry of document.querySelectorAll(wait)) {
    entry.dataset.kdrLive = "";
    const { kdrKey: key, kdrAt: at, kdrElse: remedy, kdrName: name } = entry.dataset;
    const place = entry.querySelector(".kdr-act");
    const url = addressOf(at);
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
          if (same.dataset.kdrKey !== key || same.dataset.kdrAt !== at) continue;
          same.classList.add("kdr-ended");
          same.querySelector(".kdr-act > button")?.remove();
          const words = same.querySelector(".kdr-act > [role=status]");
          if (words) words.textContent = "Revoked";
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
})();
