// The conversation as text: one list item per turn, captions visibly provisional until they are final.

export class Turns {
  constructor(list, scroller) { this.list = list; this.scroller = scroller; this.turns = new Map(); }

  clear() { this.list.replaceChildren(); this.turns.clear(); }

  caption({ turn, text, stable, final }) {
    const { asked } = this.#turn(turn);
    asked.hidden = !text;
    asked.replaceChildren(span("", text.slice(0, final ? text.length : stable)), span(final ? "" : "unsure", final ? "" : text.slice(stable)));
    asked.dataset.final = final;
    this.#follow();
  }

  thinking(turn) {
    const { answer, state } = this.#turn(turn);
    if (state.text) return;
    answer.hidden = false;
    answer.replaceChildren(dots());
    this.#follow();
  }

  answer({ turn, text, last }) {
    const found = this.#turn(turn);
    found.state.text += text;
    found.state.last = last;
    if (found.state.text.trim()) { found.answer.hidden = false; found.answer.replaceChildren(span("", found.state.text)); }
    else if (last) found.answer.hidden = true;
    this.#follow();
  }

  /** What was really played; the rest of a reply that was cut short is struck through. */
  heard({ turn, text, complete }) {
    const found = this.#turn(turn);
    found.item.dataset.heard = true;
    if (complete || !found.state.text.trim()) { if (!complete) found.answer.hidden = true; return; }
    const squeezed = found.state.text.trim().replace(/\s+/g, " ");
    const rest = squeezed.startsWith(text) ? squeezed.slice(text.length) : "";
    found.answer.replaceChildren(span("", text || ""), span("unheard", rest));
    this.#note(found, "interrupted", "you interrupted here");
  }

  latency({ turn, played_ms }) {
    this.#note(this.#turn(turn), "latency", `first word after ${Math.round(played_ms)} ms`);
  }

  dismissed({ turn, cause }) {
    const { item, asked, answer } = this.#turn(turn);
    answer.hidden = true;
    if (!asked.textContent) { item.remove(); this.turns.delete(turn); return; }
    asked.className = "aside";
    asked.textContent = `“${asked.textContent}” (${cause})`;
  }

  trouble({ turn, message }) {
    const found = this.#turn(turn);
    found.answer.hidden = !found.state.text.trim();
    this.#note(found, "wrong", message);
  }

  #turn(turn) {
    let found = this.turns.get(turn);
    if (!found) {
      const item = document.createElement("li");
      item.className = "turn";
      item.dataset.turn = turn;
      const asked = document.createElement("p"); asked.className = "asked"; asked.hidden = true;
      const answer = document.createElement("p"); answer.className = "answer"; answer.hidden = true;
      const notes = document.createElement("p"); notes.className = "note"; notes.hidden = true;
      item.append(asked, answer, notes);
      this.list.append(item);
      found = { item, asked, answer, notes, state: { text: "", last: false } };
      this.turns.set(turn, found);
    }
    return found;
  }

  #note(found, kind, text) {
    let note = found.notes.querySelector(`[data-kind="${kind}"]`);
    if (!note) { note = span("", ""); note.dataset.kind = kind; found.notes.append(note); }
    note.textContent = text;
    found.notes.hidden = false;
    if (kind === "wrong") found.notes.classList.add("wrong");
    this.#follow();
  }

  #follow() { this.scroller.scrollTop = this.scroller.scrollHeight; }
}

function span(className, text) {
  const made = document.createElement("span");
  made.className = className;
  made.textContent = text;
  return made;
}

function dots() {
  const made = document.createElement("span");
  made.className = "waiting";
  made.append(...[1, 2, 3].map(() => document.createElement("i")));
  return made;
}
