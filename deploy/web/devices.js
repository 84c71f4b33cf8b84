// What the browser has of microphones, speakers and cameras, to choose from, and opening them.

import { microphoneTrouble } from "./trouble.js";

/** `selects`: by the browser's name of a kind. What is chosen stays chosen. */
export async function listDevices(selects) {
  const found = await navigator.mediaDevices.enumerateDevices();
  for (const [kind, select] of Object.entries(selects)) {
    const chosen = select.value;
    const options = found.filter((d) => d.kind === kind && d.deviceId && d.deviceId !== "default").map((d) => new Option(d.label || "unnamed", d.deviceId));
    select.replaceChildren(new Option("The usual one", ""), ...options);
    select.value = options.some(({ value }) => value === chosen) ? chosen : ""; // one that was chosen before may be gone
  }
}

/** Opens the microphone `audio` with the camera `video`, without that if it is false or cannot be opened. Gives { opened }
 * or { trouble }; where it is no longer `wanted` when it opens, it is closed again, and the trouble is "hung-up". */
export async function openDevices(audio, video, wanted) {
  try {
    const opened = await navigator.mediaDevices.getUserMedia({ audio, video });
    if (wanted()) return { opened };
    opened.getTracks().forEach((track) => track.stop());
  } catch (error) {
    if (wanted()) return video ? openDevices(audio, false, wanted) : { trouble: microphoneTrouble(error) };
  }
  return { trouble: "hung-up" };
}

/** What to ask a camera for; `chosen`: its id, if one was chosen. */
export function cameraWish(chosen) {
  const wish = { width: { ideal: 640 }, height: { ideal: 480 }, frameRate: { ideal: 30, max: 30 } };
  return chosen ? { ...wish, deviceId: { ideal: chosen } } : wish;
}
