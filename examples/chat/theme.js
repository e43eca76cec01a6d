// Light or dark: what the system says, until the button was pressed. No module, and loaded
// before the body, so that a page that was made dark never opens in white.
"use strict";

const systemDark = matchMedia("(prefers-color-scheme: dark)");

function showTheme() {
  const chosen = localStorage.getItem("theme");
  document.documentElement.dataset.theme = chosen ?? (systemDark.matches ? "dark" : "light");
  const isDark = document.documentElement.dataset.theme === "dark";
  document.getElementById("theme")?.setAttribute("aria-pressed", String(isDark));
}

showTheme();
systemDark.addEventListener("change", showTheme);
addEventListener("storage", showTheme); // another tab has changed it
addEventListener("DOMContentLoaded", () => {
  showTheme();
  document.getElementById("theme").addEventListener("click", () => {
    const next = document.documentElement.dataset.theme === "dark" ? "light" : "dark";
    const isSystems = (next === "dark") === systemDark.matches;
    if (isSystems) localStorage.removeItem("theme");
    else localStorage.setItem("theme", next);
    showTheme();
  });
});
