// The conversation as text: one list item per turn, captions visibly provisional until they are final.

import { replayButton, showPlaying } from "./replay.js";
import { delay } from "./words.js";

const JOINED = "answered together with the next question";
const UNANSWERED = "not answered";
const NEAR = 48; // pixels from the end at which somebody reads along
const NOT_UNDERSTOOD = "Not understood in time. Say it again, or write it.";

export class Turns {
  /** `log`: a list that only whole questions and answers are added to, for screen readers. `again`: called with an answer
   * that is to be heard again. */
  constructor(list, scroller, log, again) {
    Object.assign(this, { list, scroller, log, again });
    this.turns = new Map();
    this.written = new Map(); // id of a question → its turn
    this.all = [];
    this.began = null;
    this.#keepInView();
  }

  /** A new conversation: what was said in the one before stays above it. */
  begin() {
    this.began ??= performance.now();
    this.going = true;
    this.turns.clear();
    this.written.clear();
    if (this.list.childElementCount && !this.list.lastElementChild.matches(".divider")) this.#divide("A new conversation");
  }

  /** What was said before the page was loaded again, as `said` gave it; `began`: when, ms of this page. `forget`: a button. */
  restore(said, began, forget) {
    this.began = began;
    for (const { asked, aside, answer, heard, marks, times } of said) {
      const found = this.#make();
      found.asked.textContent = asked;
      found.asked.hidden = !asked;
      found.asked.dataset.final = true;
      if (aside) found.asked.className = "aside";
      found.answer.hidden = !answer;
      found.state = { text: answer, last: true, heard: heard === answer ? undefined : heard, times };
      this.#showHeard(found);
      for (const [kind, text] of marks) this.#note(found, kind, text);
    }
    this.#divide("Kept from before this page was loaded again.").append(forget);
    this.#follow();
  }

  /** Earlier conversations are gone from the page; the one that goes on stays. */
  forget() {
    if (!this.going) this.turns.clear();
    const current = new Set([...this.turns.values()].map(({ item }) => item));
    for (const each of [...this.list.children]) if (!current.has(each)) each.remove();
    this.all = this.all.filter(({ item }) => current.has(item));
    this.log.replaceChildren();
  }

  #divide(text) {
    const divider = document.createElement("li");
    divider.className = "divider";
    divider.textContent = text;
    this.list.append(divider);
    return divider;
  }

  /** All that is on the page, oldest first. `heard`: of the answer; `times`: from and to, ms since the first beginning. */
  get said() {
    return this.all.map(({ item, state }) => {
      const text = (name) => { const found = item.querySelector(name); return found && !found.hidden ? found.textContent.trim() : ""; };
      const answer = text(".answer");
      const marks = [...item.querySelectorAll(".note span")].map((note) => [note.dataset.kind, note.textContent]);
      const times = { answer: state.shown && [state.shown], ...state.times };
      return { asked: text(".asked, .aside"), aside: Boolean(item.querySelector(".aside")), answer, heard: state.heard ?? answer, notes: marks.map(([, note]) => note).join("; "), marks, times };
    });
  }

  /** Somebody has begun to speak. */
  hearing(turn) { this.voiced = { turn, at: this.#now }; }

  /** The answer begins to be heard, or goes on; which one it is. */
  speaking(turn) {
    const found = this.#turn(turn);
    found.state.times.answer ??= [this.#now];
    return found;
  }

  /** What there is to hear again: `kept`, and whether it is being played. */
  replay(found, { kept, playing }) {
    if (kept !== undefined) found.button.hidden = !kept;
    if (playing !== undefined) showPlaying(found.button, playing);
  }

  caption({ turn, text, stable, final, id }) {
    if (id) this.#again(id, turn);
    const { asked, state } = this.#turn(turn);
    if (final) state.times.asked[1] ??= this.#now;
    asked.hidden = !text;
    asked.replaceChildren(span("", text.slice(0, final ? text.length : stable)), span(final ? "" : "unsure", final ? "" : text.slice(stable)));
    asked.dataset.final = final;
    if (final && text) this.#tell(`You: ${text}`);
    this.#follow();
  }

  /** A written question begins to be answered; before, another machine may have begun to. */
  #again(id, turn) {
    const before = this.written.get(id), found = this.turns.get(before);
    this.written.set(id, turn);
    if (!found) return;
    if (before !== turn) { this.#remove(before, found); return; }
    found.state.text = "";
    found.state.last = false;
    found.answer.replaceChildren();
  }

  #remove(turn, { item }) {
    item.remove();
    this.all = this.all.filter((each) => each.item !== item);
    this.turns.delete(turn);
  }

  thinking(turn) {
    this.#unanswered(JOINED, turn);
    const { answer, state } = this.#turn(turn);
    if (state.text) return;
    answer.hidden = false;
    answer.replaceChildren(dots());
    this.#follow();
  }

  /** The conversation is over: no answer comes to what still waits for one. */
  over() {
    this.going = false;
    this.#unanswered(UNANSWERED);
  }

  answer({ turn, text, last }) {
    const found = this.#turn(turn);
    found.state.text += text;
    found.state.last = last;
    found.state.shown ??= this.#now;
    if (found.state.text.trim()) { found.answer.hidden = false; found.answer.replaceChildren(span("", found.state.text)); }
    else if (last) found.answer.hidden = true;
    if (last && found.state.text.trim()) this.#tell(`Answer: ${found.state.text.trim()}`);
    this.#follow();
  }

  /** Which of several models answered. */
  answered({ turn, by }) { this.#note(this.#turn(turn), "by", `answered by ${by}`); }

  /** What was really played; the rest of a reply that was cut short is struck through. Which answer it was. */
  heard({ turn, text, complete }) {
    const found = this.#turn(turn);
    this.#played(found, text, complete);
    return found;
  }

  #played(found, text, complete) {
    found.item.dataset.heard = true;
    if (found.state.times.answer) found.state.times.answer[1] = this.#now;
    found.state.heard = complete ? undefined : text;
    if (complete || !found.state.text.trim()) { if (!complete) found.answer.hidden = true; return; }
    this.#showHeard(found);
    this.#note(found, "interrupted", "you interrupted here");
  }

  /** The answer, what was not heard of it struck through. */
  #showHeard({ answer, state: { text, heard = text } }) {
    const squeezed = text.trim().replace(/\s+/g, " ");
    const rest = squeezed.startsWith(heard) ? squeezed.slice(heard.length) : "";
    answer.replaceChildren(span("", heard), span("unheard", rest));
  }

  latency({ turn, played_ms }) {
    this.#note(this.#turn(turn), "latency", `first word after ${delay(played_ms)}`);
  }

  dismissed({ turn, cause }) {
    const found = this.#turn(turn), { asked, answer } = found;
    answer.hidden = true;
    if (cause === "not understood") {
      asked.dataset.final = true;
      this.#note(found, "missed", NOT_UNDERSTOOD);
      this.#tell(NOT_UNDERSTOOD);
      return;
    }
    if (!asked.textContent) { this.#remove(turn, found); return; }
    asked.className = "aside";
    asked.textContent = `“${asked.textContent}” (${cause})`;
  }

  trouble({ turn, message }) {
    const found = this.#turn(turn);
    found.answer.hidden = !found.state.text.trim();
    this.#note(found, "wrong", message);
  }

  /** Nothing more comes for the turns that wait, except for `but`. */
  #unanswered(why, but) {
    for (const [turn, found] of this.turns) {
      if (turn === but || found.answer.hidden || !found.answer.querySelector(".waiting")) continue;
      found.answer.hidden = true;
      found.answer.replaceChildren();
      this.#note(found, "unanswered", why);
    }
  }

  get #now() { return Math.round(performance.now() - this.began); }

  #turn(turn) {
    let found = this.turns.get(turn);
    if (!found) {
      found = this.#make();
      found.item.dataset.turn = turn;
      found.state = { text: "", last: false, times: { asked: [this.voiced?.turn === turn ? this.voiced.at : this.#now] } };
      found.button.addEventListener("click", () => this.again(found));
      this.turns.set(turn, found);
      this.following = true;
    }
    return found;
  }

  #make() {
    const item = document.createElement("li");
    item.className = "turn";
    const asked = document.createElement("p"); asked.className = "asked"; asked.hidden = true; asked.dir = "auto";
    const answer = document.createElement("p"); answer.className = "answer"; answer.hidden = true; answer.dir = "auto";
    const notes = document.createElement("p"); notes.className = "note"; notes.hidden = true;
    const button = replayButton(), row = document.createElement("div");
    row.className = "answered";
    row.append(answer, button);
    item.append(asked, row, notes);
    this.list.append(item);
    const found = { item, asked, answer, notes, button };
    this.all.push(found);
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

  /** The newest is shown, unless the person has scrolled up to read; until they are back, or a new turn begins. */
  #follow() { if (this.following && this.all.length) this.scroller.scrollTop = this.scroller.scrollHeight; }

  #keepInView() {
    const { scroller } = this;
    let before = 0;
    this.following = true;
    scroller.addEventListener("scroll", () => {
      if (scroller.scrollHeight - scroller.clientHeight - scroller.scrollTop < NEAR) this.following = true;
      else if (scroller.scrollTop < before) this.following = false; // the page itself only scrolls down
      before = scroller.scrollTop;
    });
    new ResizeObserver(() => this.#follow()).observe(scroller); // a notice or a keyboard takes room
  }
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
