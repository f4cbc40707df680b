// Light or dark: what the page's address says, since what embeds it may have a theme of its own; else what the browser does.

const given = new URLSearchParams(location.search).get("theme");
const preferred = matchMedia("(prefers-color-scheme: dark)");

export function applyTheme() {
  if (given === "light" || given === "dark") {
    document.documentElement.style.colorScheme = given;
  }
}

export function isDark() {
  return given === "dark" || (given !== "light" && preferred.matches);
}

export function onThemeChange(listener) {
  preferred.addEventListener("change", listener);
}
