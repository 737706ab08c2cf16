/** What the server is doing, from its metrics. Without them there are no gauges, and nothing is complained of. */

import { metrics } from "./api.js";

const EVERY = 1000; // milliseconds between two looks, while an answer is on its way

const $ = (id) => document.getElementById(id);
let timer = 0;

/** Look now, and again and again until `rest`. */
export function watch() {
  clearInterval(timer);
  timer = setInterval(look, EVERY);
  look();
}

/** Look once more, when the server has had time to put its things away. */
export function rest() {
  clearInterval(timer);
  setTimeout(look, EVERY);
}

/** perSecond: pieces of text; 0 for nothing to say yet. */
export function showSpeed(perSecond) {
  $("speed").hidden = !perSecond;
  $("speed").textContent = `${perSecond.toFixed(1)} tok/s`;
}

export async function look() {
  const found = await metrics().catch(() => ({}));
  const share = found.plait_kv_cache_usage;
  $("cache").hidden = share === undefined;
  $("kv").value = share ?? 0;
  $("kv-text").textContent = `${Math.round(100 * (share ?? 0))} %`;
  const [running, waiting] = [found.plait_requests_running, found.plait_requests_waiting];
  $("running").hidden = running === undefined;
  $("running").textContent = `${running} running` + (waiting ? `, ${waiting} waiting` : "");
}
