// The live timeline: a row per stage, how busy it was in each report, what waited in its queue, what was dropped.

const SPAN_MS = 12000;

export class Timeline {
  constructor(canvas, rows) {
    this.canvas = canvas;
    this.rows = rows;
    this.reports = [];
    this.marks = [];
    this.running = false;
  }

  add(stats) {
    const now = performance.now();
    this.reports.push({ at: now, span: stats.span_ms, stages: stats.stages });
    while (this.reports.length && this.reports[0].at < now - SPAN_MS - 1000) this.reports.shift();
    this.rows.replaceChildren(...stats.stages.map((stage) => {
      const row = document.createElement("tr");
      const seconds = stats.span_ms / 1000;
      const cells = [stage.name, (stage.units / seconds).toFixed(0), `${Math.min(100, stage.work_us / 10 / stats.span_ms).toFixed(0)} %`, stage.queue, stage.dropped];
      row.append(...cells.map((text, i) => { const cell = document.createElement(i ? "td" : "th"); if (!i) cell.scope = "row"; cell.textContent = text; return cell; }));
      return row;
    }));
  }

  mark(text) {
    const now = performance.now();
    this.marks.push({ at: now, text });
    while (this.marks.length && this.marks[0].at < now - SPAN_MS) this.marks.shift();
  }

  run(on) {
    const started = on && !this.running;
    this.running = on;
    if (started) requestAnimationFrame(() => this.#frame());
  }

  #frame() {
    if (!this.running) return;
    this.draw();
    setTimeout(() => requestAnimationFrame(() => this.#frame()), 80);
  }

  draw() {
    const { canvas } = this;
    const ratio = devicePixelRatio || 1;
    const width = canvas.clientWidth, height = canvas.clientHeight;
    if (canvas.width !== Math.round(width * ratio)) { canvas.width = Math.round(width * ratio); canvas.height = Math.round(height * ratio); }
    const context = canvas.getContext("2d");
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, width, height);
    const style = getComputedStyle(document.documentElement);
    const colour = (name) => style.getPropertyValue(name).trim();
    const names = this.reports.at(-1)?.stages.map((stage) => stage.name) ?? [];
    if (!names.length) return;
    const label = 84, top = 20, step = (height - top - 4) / names.length;
    const now = performance.now();
    const x = (at) => label + (width - label) * (1 - (now - at) / SPAN_MS);
    context.font = "12px system-ui, sans-serif";
    context.textBaseline = "middle";
    for (let s = 0; s <= SPAN_MS / 1000; s += 2) {
      const at = Math.round(x(now - s * 1000)) + .5;
      context.strokeStyle = colour("--line");
      context.beginPath(); context.moveTo(at, top); context.lineTo(at, height); context.stroke();
    }
    names.forEach((name, i) => {
      const y = top + i * step;
      context.fillStyle = colour("--soft");
      context.textAlign = "left";
      context.fillText(name, 0, y + step / 2, label - 8);
      context.fillStyle = colour(`--stage-${1 + i % 8}`);
      for (const report of this.reports) {
        const stage = report.stages[i];
        if (!stage || (!stage.units && !stage.work_us && !stage.queue)) continue;
        const right = x(report.at), left = Math.max(label, x(report.at - report.span));
        if (right < label) continue;
        const busy = Math.min(1, stage.work_us / 1000 / report.span);
        const tall = Math.max(stage.units ? 1.5 : 0, busy * step * .82);
        context.globalAlpha = 1;
        context.fillRect(left, y + step * .92 - tall, right - left + .5, tall);
        if (stage.queue) { context.globalAlpha = .25; const q = Math.min(1, stage.queue / 8) * step * .82; context.fillRect(left, y + step * .92 - q, right - left + .5, q); }
      }
      context.globalAlpha = 1;
    });
    context.textAlign = "center";
    let free = width;
    for (const mark of this.marks.toReversed()) {
      const at = x(mark.at);
      if (at < label) continue;
      context.strokeStyle = context.fillStyle = colour("--ink");
      context.globalAlpha = .55;
      context.setLineDash([2, 3]);
      context.beginPath(); context.moveTo(at, top); context.lineTo(at, height); context.stroke();
      context.setLineDash([]);
      context.globalAlpha = 1;
      const half = context.measureText(mark.text).width / 2;
      const middle = Math.min(width - half, at);
      if (middle + half > free) continue; // no room beside the newer one
      context.fillText(mark.text, middle, 9);
      free = middle - half - 6;
    }
  }
}
