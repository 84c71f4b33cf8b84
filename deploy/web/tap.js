// Hands on what is heard, while it is wanted, with the half second before: runs where the browser makes sound.

const BEFORE_S = 0.5;
const BLOCK = 2048;

class Tap extends AudioWorkletProcessor {
  constructor({ processorOptions: { every } }) {
    super();
    this.every = every; // so many samples become one, their mean
    this.before = new Float32Array(Math.round((BEFORE_S * sampleRate) / every));
    this.at = 0;
    this.sum = 0;
    this.summed = 0;
    this.number = 0;
    this.block = new Float32Array(BLOCK);
    this.filled = 0;
    this.port.onmessage = ({ data }) => (data ? this.#begin(data) : this.#end());
  }

  process([[samples]]) {
    for (const sample of samples ?? []) {
      this.sum += sample;
      if (++this.summed < this.every) continue;
      const mean = this.sum / this.every;
      this.sum = this.summed = 0;
      if (this.number) this.#put(mean);
      this.before[this.at] = mean;
      this.at = (this.at + 1) % this.before.length;
    }
    return true;
  }

  #begin(number) {
    this.number = number;
    this.filled = 0;
    for (let i = 0; i < this.before.length; i++) this.#put(this.before[(this.at + i) % this.before.length]);
  }

  #end() {
    this.port.postMessage({ number: this.number, samples: this.block.slice(0, this.filled), last: true });
    this.number = 0;
  }

  #put(sample) {
    this.block[this.filled++] = sample;
    if (this.filled < BLOCK) return;
    this.port.postMessage({ number: this.number, samples: this.block.slice() });
    this.filled = 0;
  }
}

registerProcessor("tap", Tap);
