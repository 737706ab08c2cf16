/** The form of settings, kept in the browser as it is typed. */

import * as store from "./store.js";
import { showError } from "./view.js";

const form = document.getElementById("settings");
const panel = document.getElementById("settings-panel");

export function restore() {
  for (const [name, value] of Object.entries(store.settings())) {
    const field = form.elements.namedItem(name);
    if (field) field.value = value;
  }
  form.addEventListener("change", keep);
  form.addEventListener("submit", (event) => event.preventDefault());
}

function keep() {
  try {
    store.saveSettings(values());
  } catch (error) {
    showError(error.message);
  }
}

/** Name -> text, empty where nothing was set. */
export function values() {
  return Object.fromEntries(new FormData(form));
}

/** Whether every value can be sent; if not, the browser points at the first that cannot. */
export function areValid() {
  if (form.checkValidity()) return true;
  panel.open = true;
  document.getElementById("menu").setAttribute("aria-expanded", "true");
  return form.reportValidity();
}
