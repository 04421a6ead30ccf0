// Refreshes the page: each part that has changed is replaced, except one that somebody is using.
"use strict";

(() => {
  const EVERY_MS = 5000;
  const title = document.title;
  let lost = 0;

  function isBusy(part) {
    return part.contains(document.activeElement) ||
      part.querySelector("input[type=checkbox]:checked, details[open]") !== null ||
      isFilled(part) ||
      isSelected(part);
  }

  function isFilled(part) {
    const fields = part.querySelectorAll("input[type=search], option");
    return Array.from(fields).some((one) => one.matches("option")
      ? one.selected !== one.defaultSelected
      : one.value !== one.defaultValue);
  }

  function isSelected(part) {
    const selection = document.getSelection();
    return selection !== null && !selection.isCollapsed && selection.containsNode(part, true);
  }

  function show(html) {
    const fresh = new DOMParser().parseFromString(html, "text/html");
    for (const part of fresh.querySelectorAll("[data-part]")) {
      const old = document.getElementById(part.id);
      if (old !== null && !isBusy(old) && old.outerHTML !== part.outerHTML) {
        old.replaceWith(document.adoptNode(part));
      }
    }
  }

  function tell(isLost) {
    lost = isLost ? lost + 1 : 0;
    document.body.classList.toggle("lost", lost > 1);
    document.title = lost > 1 ? `(no answer) ${title}` : title;
  }

  async function refresh() {
    if (document.hidden) {
      return;
    }
    try {
      const response = await fetch(`part${location.search}`, { signal: AbortSignal.timeout(EVERY_MS) });
      if (response.status === 401) {
        location.replace("login?ended");
      } else if (response.ok) {
        show(await response.text());
      }
      tell(!response.ok);
    } catch {
      tell(true);
    }
  }

  async function keepFresh() {
    await refresh();
    setTimeout(keepFresh, EVERY_MS);
  }

  document.documentElement.classList.add("scripted");
  document.addEventListener("change", (event) => {
    if (event.target.matches("[data-all]")) {
      for (const box of event.target.form.querySelectorAll("input[name=uid]")) {
        box.checked = event.target.checked;
      }
    }
  });
  document.addEventListener("visibilitychange", refresh);
  setTimeout(keepFresh, EVERY_MS);
})();
