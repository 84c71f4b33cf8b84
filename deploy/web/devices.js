// What the browser has of microphones, speakers and cameras, to choose from.

/** `selects`: by the browser's name of a kind. What is chosen stays chosen. */
export async function listDevices(selects) {
  const found = await navigator.mediaDevices.enumerateDevices();
  for (const [kind, select] of Object.entries(selects)) {
    const chosen = select.value;
    const options = found.filter((d) => d.kind === kind && d.deviceId && d.deviceId !== "default").map((d) => new Option(d.label || "unnamed", d.deviceId));
    select.replaceChildren(new Option("The usual one", ""), ...options);
    select.value = chosen;
  }
}
