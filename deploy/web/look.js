// Where the machine looks: marks over the camera's picture, and a picture that is sharp only there.

const FADE_MS = 4000;
const TELL_MS = 3000;
const SVG = "http://www.w3.org/2000/svg";

/** Marks over a mirrored video. What they show is also said in words, for whoever does not see them. */
export class Marks {
  constructor(svg, words) {
    this.svg = svg;
    this.words = words;
    this.boxes = [];
    this.on = false;
    this.told = -TELL_MS;
  }

  /** `boxes`: [x, y, width, height, weight] each, 0…1 of the picture. They stay until there are others, or four seconds. */
  show(boxes) {
    this.boxes = boxes;
    clearTimeout(this.fading);
    if (boxes.length) this.fading = setTimeout(() => this.show([]), FADE_MS);
    this.#draw();
  }

  turn(on) {
    this.on = on;
    this.told = -TELL_MS;
    this.#draw();
  }

  #draw() {
    const boxes = this.on ? this.boxes : [];
    while (this.svg.children.length > boxes.length) this.svg.lastChild.remove();
    while (this.svg.children.length < boxes.length) this.svg.append(document.createElementNS(SVG, "rect"));
    boxes.forEach(([x, y, width, height, weight], i) => {
      const mark = this.svg.children[i];
      for (const [name, value] of Object.entries({ x, y, width, height })) mark.setAttribute(name, value.toFixed(4));
      mark.style.opacity = Math.max(0.25, weight);
    });
    const said = this.on ? inWords(boxes) : "";
    const now = performance.now();
    if (said === this.words.textContent || (this.on && now - this.told < TELL_MS)) return;
    this.told = now;
    this.words.textContent = said;
  }
}

/** What boxes say, as seen in a mirror. */
export function inWords(boxes) {
  if (!boxes.length) return "The machine looks at the whole picture";
  const [x, y, width, height] = boxes.reduce((most, box) => (box[4] > most[4] ? box : most));
  const side = ["right", "", "left"][Math.min(2, Math.floor((x + width / 2) * 3))];
  const level = ["upper", "", "lower"][Math.min(2, Math.floor((y + height / 2) * 3))];
  const place = [level, side].filter(Boolean).join(" ") || "middle";
  return boxes.length === 1 ? `The machine looks at the ${place}` : `The machine looks at ${boxes.length} places, most of all at the ${place}`;
}

/** The camera's picture, sharp where the machine looks, a quarter of the detail elsewhere: `track` is sent instead. */
export class Softened {
  constructor(camera) {
    this.boxes = [];
    this.rate = 30;
    this.drawn = 0;
    this.spent_ms = 0;
    this.video = document.createElement("video");
    Object.assign(this.video, { muted: true, playsInline: true, srcObject: new MediaStream([camera]) });
    this.canvas = document.createElement("canvas");
    this.context = this.canvas.getContext("2d", { alpha: false });
    this.small = [4, 2].map((factor) => ({ factor, canvas: document.createElement("canvas") }));
    this.last = 0;
    this.video.play().catch(() => {});
    this.#next();
    this.track = this.canvas.captureStream().getVideoTracks()[0];
    this.track.contentHint = "detail";
  }

  stop() {
    this.stopped = true;
    clearTimeout(this.timer);
    this.track.stop();
    this.video.srcObject = null;
  }

  #next() {
    const draw = () => {
      if (this.stopped) return;
      this.#next();
      const now = performance.now();
      if (now - this.last < 900 / this.rate || !this.video.videoWidth) return;
      this.last = now;
      this.#draw();
      this.drawn += 1;
      this.spent_ms += performance.now() - now;
    };
    if (this.video.requestVideoFrameCallback) this.video.requestVideoFrameCallback(draw);
    else this.timer = setTimeout(draw, 1000 / 30);
  }

  #draw() {
    const { video, canvas, context, boxes } = this;
    const width = video.videoWidth, height = video.videoHeight;
    if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
    if (!boxes.length) { context.drawImage(video, 0, 0); return; }
    // A ring of half the detail lies between the two, since a hard edge would cost the bits that were saved.
    for (const { factor, canvas: small } of this.small) {
      const w = Math.max(1, Math.round(width / factor)), h = Math.max(1, Math.round(height / factor));
      if (small.width !== w || small.height !== h) Object.assign(small, { width: w, height: h });
      const shrink = small.getContext("2d", { alpha: false });
      shrink.imageSmoothingQuality = "medium";
      shrink.drawImage(video, 0, 0, w, h);
    }
    const [quarter, half] = this.small.map((level) => level.canvas);
    context.drawImage(quarter, 0, 0, width, height);
    for (const [margin, source, scale] of [[0.06, half, 0.5], [0.02, video, 1]]) {
      for (const [x, y, w, h] of boxes) {
        const left = Math.max(0, Math.floor((x - margin) * width)), top = Math.max(0, Math.floor((y - margin) * height));
        const wide = Math.min(width, Math.ceil((x + w + margin) * width)) - left;
        const tall = Math.min(height, Math.ceil((y + h + margin) * height)) - top;
        if (wide > 0 && tall > 0) context.drawImage(source, left * scale, top * scale, wide * scale, tall * scale, left, top, wide, tall);
      }
    }
  }
}
