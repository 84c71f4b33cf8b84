// What may be set for one's own conversation: as many things as the server offers, and no others.

/** `place`: where they are shown, in its `div`, and in its `p` what became of a wish. `send`: takes a control. */
export class Preferences {
  constructor(place, send) {
    this.place = place;
    this.said = place.querySelector("p");
    this.send = send;
    this.offered = new Map();
    this.wanted = new Map();
  }

  /** `offered`: of the server's config. What was set stays set, as long as it is offered. */
  offer(offered) {
    if (JSON.stringify(offered) === this.shown) return;
    this.shown = JSON.stringify(offered);
    this.offered = new Map(offered.map((each) => [each.name, each]));
    for (const name of this.wanted.keys()) if (!this.offered.has(name)) this.wanted.delete(name);
    this.place.hidden = !offered.length;
    this.place.querySelector("div").replaceChildren(...offered.map((each) => (each.values ? this.#list(each) : this.#range(each))));
  }

  /** There is a connection: what was set before holds in this conversation, too. */
  again() {
    for (const [name, value] of this.wanted) this.send({ type: "prefer", name, value });
  }

  preferred({ name, value }) {
    const each = this.offered.get(name);
    if (!each) return;
    each.value = value;
    this.said.textContent = `${each.label}: ${this.#words(each, value)}, from now on`;
  }

  /** It stays as it was. */
  refused(message) {
    for (const [name, each] of this.offered) {
      if (!this.wanted.has(name) || this.wanted.get(name) === each.value) continue;
      this.wanted.delete(name);
      each.show(each.value);
    }
    this.said.textContent = message;
  }

  #want(each, value) {
    this.wanted.set(each.name, value);
    this.send({ type: "prefer", name: each.name, value });
  }

  #words(each, value) {
    return each.values ? each.values.find((one) => one.value === value)?.label || value : `${Number(value.toFixed(2))} ${each.unit}`.trim();
  }

  #list(each) {
    const label = document.createElement("label");
    const select = document.createElement("select");
    select.append(...each.values.map((one) => new Option(one.label || one.value, one.value)));
    each.show = (value) => { select.value = value; };
    each.show(this.wanted.get(each.name) ?? each.value);
    select.addEventListener("change", () => this.#want(each, select.value));
    label.append(`${each.label} `, select);
    label.dataset.name = each.name;
    return label;
  }

  #range(each) {
    const row = document.createElement("div");
    const [label, range, output] = ["label", "input", "output"].map((kind) => document.createElement(kind));
    row.className = "row";
    row.dataset.name = each.name;
    range.id = `preference-${each.name}`;
    Object.assign(range, { type: "range", min: each.from, max: each.to, step: each.step });
    label.htmlFor = range.id;
    label.textContent = each.label;
    output.htmlFor = range.id;
    each.show = (value) => { range.value = value; output.textContent = this.#words(each, Number(range.value)); };
    each.show(this.wanted.get(each.name) ?? each.value);
    range.addEventListener("input", () => { output.textContent = this.#words(each, Number(range.value)); });
    range.addEventListener("change", () => this.#want(each, Number(range.value)));
    row.append(label, range, output);
    return row;
  }
}
