// The field for a question in writing: it grows with its lines. Enter sends; Shift and Enter begin a new line.

export class Writing {
  /** `form` has a textarea and a button; `send` is called with what was written. */
  constructor(form, send) {
    this.form = form;
    this.field = form.querySelector("textarea");
    this.field.addEventListener("input", () => this.#fit());
    this.field.addEventListener("keydown", (pressed) => {
      // In an input method Enter chooses a word; 229 is how Safari says so, where composing has just ended.
      if (pressed.key !== "Enter" || pressed.shiftKey || pressed.isComposing || pressed.keyCode === 229) return;
      pressed.preventDefault();
      this.submit();
    });
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      const text = this.text.trim();
      this.text = "";
      if (text) send(text);
    });
    addEventListener("resize", () => this.#fit());
  }

  get text() { return this.field.value; }

  set text(text) {
    this.field.value = text;
    this.#fit();
  }

  set disabled(disabled) {
    for (const control of [this.field, this.form.querySelector("button")]) control.disabled = disabled;
  }

  submit() { this.form.requestSubmit(); }

  #fit() {
    const { field } = this;
    field.style.height = "auto";
    field.style.height = `${field.scrollHeight + field.offsetHeight - field.clientHeight}px`;
  }
}
