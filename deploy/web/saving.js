// What was said, taken along: to the clipboard, as text, as JSON.

/** `turns`: those of the page, oldest first: { asked, answer, notes }. */
export function asText(turns) {
  return turns.map(({ asked, answer }) => [asked && `You: ${asked}`, answer && `It: ${answer}`].filter(Boolean).join("\n")).filter(Boolean).join("\n\n");
}

export function asJson(name, turns) {
  return JSON.stringify({ name, saved: new Date().toISOString(), turns }, null, 2);
}

/** Has the browser save a text as a file. */
export function download(name, text, type) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}
