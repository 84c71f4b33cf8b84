// What was said, taken along: to the clipboard, as text, as JSON, as subtitles.

const LINE = 84; // characters of a subtitle: two lines of it
const READ_MS = 60; // a character of what was only read
const LEAST_MS = 1000;

/** `turns`: those of the page, oldest first: { asked, answer, notes, heard, times }. */
export function asText(turns) {
  return turns.map(({ asked, answer }) => [asked && `You: ${asked}`, answer && `It: ${answer}`].filter(Boolean).join("\n")).filter(Boolean).join("\n\n");
}

export function asJson(name, turns) {
  return JSON.stringify({ name, saved: new Date().toISOString(), turns: turns.map(({ marks: _, ...turn }) => turn) }, null, 2);
}

/** WebVTT, its times from the beginning of the first conversation: of an answer as it was heard, and only what was. */
export function asSubtitles(name, turns) {
  const cues = turns.flatMap(({ asked, heard, times }) => [...cuesOf("You", asked, times.asked), ...cuesOf("It", heard, times.answer)]);
  const numbered = cues.sort((a, b) => a.from - b.from).map(({ who, text, from, to }, i) => `${i + 1}\n${clock(from)} --> ${clock(to)}\n<v ${who}>${escaped(text)}`);
  return [`WEBVTT - ${name.replace(/\s+/g, " ").replaceAll("-->", "→")}`, ...numbered].join("\n\n");
}

/** A long text in several, each as long as its share of the letters. */
function cuesOf(who, text, times) {
  if (!text || !times) return [];
  const [from, until] = times;
  const to = Math.max(until ?? from + text.length * READ_MS, from + LEAST_MS);
  let at = 0;
  return pieces(text).map((piece) => {
    const begins = from + ((to - from) * at) / text.length;
    at += piece.length;
    return { who, text: piece.trim(), from: begins, to: from + ((to - from) * at) / text.length };
  });
}

/** Cut behind sentences where that is possible, else between words; together they are the text. */
function pieces(text) {
  const found = [""];
  for (const word of text.match(/\s*\S+/g) ?? []) {
    const last = found.at(-1);
    if (last && (last.length + word.length > LINE || (/[.!?…]$/.test(last) && last.length > LINE / 3))) found.push(word);
    else found[found.length - 1] += word;
  }
  return found;
}

function clock(ms) {
  const whole = Math.max(0, Math.round(ms));
  const [hours, minutes, seconds] = [whole / 3600000, (whole / 60000) % 60, (whole / 1000) % 60].map((part) => String(Math.floor(part)).padStart(2, "0"));
  return `${hours}:${minutes}:${seconds}.${String(whole % 1000).padStart(3, "0")}`;
}

function escaped(text) {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;").replace(/\s+/g, " ");
}

/** `button` opens `dialog`; `told` says to screen readers what the button says; `what` gives name and turns. */
export function offerSaving(button, dialog, told, what) {
  const label = button.querySelector("span");
  button.addEventListener("click", () => dialog.showModal());
  dialog.addEventListener("close", async () => {
    const how = dialog.returnValue;
    dialog.returnValue = "";
    if (!await save(how, ...what())) return;
    label.textContent = told.textContent = "Copied";
    setTimeout(() => { label.textContent = "Save"; told.textContent = ""; }, 2500);
  });
}

/** `how`: copy, text, subtitles, json; anything else is nothing. Resolves to whether it is on the clipboard: where a page may
 * not do that, it is saved as text. */
async function save(how, name, turns) {
  if (how === "copy") {
    try { await navigator.clipboard.writeText(asText(turns)); return true; } catch { how = "text"; }
  }
  if (how === "text") download("conversation.txt", `${asText(turns)}\n`, "text/plain");
  if (how === "subtitles") download("conversation.vtt", `${asSubtitles(name, turns)}\n`, "text/vtt");
  if (how === "json") download("conversation.json", asJson(name, turns), "application/json");
  return false;
}

/** Has the browser save a text as a file. */
function download(name, text, type) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}
