// The conversation as text: one list item per turn, captions visibly provisional until they are final.

export class Turns {
  /** `log`: a list that only whole questions and answers are added to, for screen readers. */
  constructor(list, scroller, log) { this.list = list; this.scroller = scroller; this.log = log; this.turns = new Map(); }

  /** A new conversation: what was said in the one before stays above it. */
  begin() {
    this.turns.clear();
    if (!this.list.childElementCount) return;
    const divider = document.createElement("li");
    divider.className = "divider";
    divider.textContent = "A new conversation";
    this.list.append(divider);
  }

  /** All that is on the page, oldest first. */
  get said() {
    return [...this.list.querySelectorAll(".turn")].map((item) => {
      const text = (name) => { const found = item.querySelector(name); return found && !found.hidden ? found.textContent.trim() : ""; };
      return { asked: text(".asked, .aside"), answer: text(".answer"), notes: text(".note") };
    });
  }

  caption({ turn, text, stable, final }) {
    const { asked } = this.#turn(turn);
    asked.hidden = !text;
    asked.replaceChildren(span("", text.slice(0, final ? text.length : stable)), span(final ? "" : "unsure", final ? "" : text.slice(stable)));
    asked.dataset.final = final;
    if (final && text) this.#tell(`You: ${text}`);
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
    if (last && found.state.text.trim()) this.#tell(`Answer: ${found.state.text.trim()}`);
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

  #tell(text) {
    const line = document.createElement("p");
    line.textContent = text;
    this.log.append(line);
    while (this.log.childElementCount > 20) this.log.firstElementChild.remove();
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
