// What outlives a reload, in this browser alone: settings, and what was said where the person has chosen that. Of a pipeline
// that keeps nothing the page keeps nothing either. The token is never kept.

const SETTINGS = "thalweg.settings"; // in localStorage: until it is forgotten
const SAID = "thalweg.said"; // in sessionStorage: of this tab alone
const MOST_TURNS = 200;
const NOTHING = "This pipeline keeps nothing, and neither does this page: settings hold until it is closed or loaded again.";
const FORGOTTEN = "Forgotten. What is set from now on is remembered again.";

export class Memory {
  /** `place`: the part of the settings about it. `controls`: by name, what is set. `preferences`, `turns`: of the page.
   * `forgotten`: called once all of it is gone. */
  constructor({ place, controls, preferences, turns, forgotten }) {
    Object.assign(this, { place, controls, preferences, turns, forgotten });
    this.allowed = false;
    this.words = place.querySelector("p").textContent;
    const dialog = place.closest("dialog");
    dialog.addEventListener("change", () => this.#settings());
    place.querySelector("button").addEventListener("click", () => this.forget());
    document.addEventListener("visibilitychange", () => document.hidden && this.keep());
    addEventListener("storage", ({ key }) => [SETTINGS, null].includes(key) && this.#takenBack());
  }

  /** The server says whether its pipeline `keepsNothing`: then all is forgotten; else, the first time, all is as it was. */
  open(keepsNothing) {
    const first = !this.allowed && !keepsNothing;
    this.allowed = !keepsNothing;
    for (const part of this.place.querySelectorAll("label, button")) part.hidden = keepsNothing;
    this.place.querySelector("p").textContent = keepsNothing ? NOTHING : this.words;
    if (keepsNothing) this.#erase();
    if (first) { this.#restoreSettings(); this.#restoreSaid(); }
  }

  /** Nothing is left of it in the browser, nor of earlier conversations on the page. */
  forget() {
    this.#erase();
    this.controls.keepSaid.checked = false;
    this.turns.forget();
    this.place.querySelector("p").textContent = FORGOTTEN;
    this.forgotten();
  }

  #settings() {
    if (!this.allowed) return;
    const values = Object.fromEntries(Object.entries(this.controls).map(([name, control]) => [name, valueOf(control)]));
    write(localStorage, SETTINGS, { ...values, preferences: Object.fromEntries(this.preferences.wanted) });
    if (!values.keepSaid) remove(sessionStorage, SAID);
  }

  /** In another tab settings were changed, or all was forgotten: what is not to be kept there is not kept here either. */
  #takenBack() {
    if (read(localStorage, SETTINGS)?.keepSaid === true) return;
    this.controls.keepSaid.checked = false;
    remove(sessionStorage, SAID);
  }

  #restoreSettings() {
    const { preferences, ...values } = read(localStorage, SETTINGS) ?? {};
    for (const [name, value] of Object.entries(preferences ?? {})) this.preferences.wanted.set(name, value);
    for (const [name, control] of Object.entries(this.controls)) {
      if (values[name] === undefined || values[name] === valueOf(control)) continue;
      if (control.type === "checkbox") control.checked = values[name] === true;
      else if (control.options) { control.add(new Option("The one chosen before", values[name])); control.value = values[name]; }
      else control.value = values[name];
      for (const event of ["input", "change"]) control.dispatchEvent(new Event(event)); // these do not bubble
    }
  }

  /** Keeps what was said so far, if it is to be kept. */
  keep() {
    if (!this.allowed || !this.controls.keepSaid.checked || !this.turns.all.length) return;
    write(sessionStorage, SAID, { began: performance.timeOrigin + this.turns.began, turns: this.turns.said.slice(-MOST_TURNS) });
  }

  #restoreSaid() {
    if (!this.controls.keepSaid.checked) remove(sessionStorage, SAID); // it was taken back while this page was not there
    const found = read(sessionStorage, SAID);
    if (!found) return;
    const button = document.createElement("button");
    button.className = "quiet";
    button.textContent = "Forget";
    button.addEventListener("click", () => this.forget());
    this.turns.restore(found.turns, found.began - performance.timeOrigin, button);
  }

  #erase() {
    remove(localStorage, SETTINGS);
    remove(sessionStorage, SAID);
  }
}

function valueOf(control) { return control.type === "checkbox" ? control.checked : control.value; }

// A browser may keep nothing, by its own settings or for want of room: then the page does without.
function read(storage, name) { try { return JSON.parse(storage.getItem(name)); } catch { return null; } }
function write(storage, name, value) { try { storage.setItem(name, JSON.stringify(value)); } catch { remove(storage, name); } }
function remove(storage, name) { try { storage.removeItem(name); } catch { /* it has kept nothing */ } }
