// Holding Space, or the Mute button, to speak: muted otherwise. Only where somebody has chosen that.

const ELSEWHERE = "input, textarea, select, dialog"; // other buttons are left to Enter

/** `chosen`: the checkbox; `button`: Mute; `talking`: whether there is a microphone to mute; `mute`: does it. */
export function offerHolding({ chosen, button, talking, mute }) {
  const hold = (muted) => { if (chosen.checked && talking()) mute(muted); };
  for (const [event, muted] of [["pointerdown", false], ["pointerup", true], ["pointercancel", true], ["pointerleave", true]]) {
    button.addEventListener(event, () => hold(muted));
  }
  for (const [event, muted] of [["keydown", false], ["keyup", true]]) {
    document.addEventListener(event, (pressed) => {
      if (pressed.code !== "Space" || pressed.target.closest?.(ELSEWHERE) || !chosen.checked || !talking()) return;
      pressed.preventDefault();
      hold(muted);
    });
  }
  addEventListener("blur", () => hold(true)); // the key may be let go where nobody sees it
  chosen.addEventListener("change", () => {
    button.querySelector("span").textContent = chosen.checked ? "Hold to speak" : "Mute";
    if (talking()) mute(chosen.checked);
  });
}
