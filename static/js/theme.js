// Runs before the first paint: the stored theme, or the operating system's. Not a module, so that nothing flashes.
(() => {
  const system = matchMedia("(prefers-color-scheme: dark)");
  const apply = () => {
    const stored = localStorage.getItem("theme");
    const theme = stored || (system.matches ? "dark" : "light");
    document.documentElement.setAttribute("data-bs-theme", theme);
    document.dispatchEvent(new CustomEvent("theme:changed", { detail: theme }));
  };
  system.addEventListener("change", apply);
  addEventListener("storage", apply);
  document.addEventListener("theme:toggle", () => {
    const now = document.documentElement.getAttribute("data-bs-theme");
    const next = now === "dark" ? "light" : "dark";
    const followsSystem = next === (system.matches ? "dark" : "light");
    if (followsSystem) localStorage.removeItem("theme");
    else localStorage.setItem("theme", next);
    apply();
  });
  apply();
})();
