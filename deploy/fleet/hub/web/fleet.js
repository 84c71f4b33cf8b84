// Map, nodes, generations.
import { $, ago, count, fill, make, show } from './dom.js';
import { rollBack, targets } from './acting.js';

const buttons = new Map();
let drawn = '';

const sum = (counts) => Object.values(counts).reduce((all, each) => all + each, 0);

export function showFleet({ nodes, generations }, map, chosen) {
  const here = nodes.filter((row) => row.state === 'here').length;
  show($('summary'), nodes.length === 1 ? `1 node, ${here} here` : `${nodes.length} nodes, ${here} here`);
  showMap(map);
  fill($('nodes'), nodes.map((row) => cells(row, chosen)), nodes.map((row) => row.node));
  $('no-nodes').hidden = nodes.length > 0;
  fill($('generations'), generations.map(generation), generations.map((each) => each.generation));
  $('no-generations').hidden = generations.length > 0;
  targets(nodes);
}

// The hub escapes what nodes have told; read as XML, not as HTML, it holds no script that would run.
function showMap(text) {
  if (text === drawn) return;
  drawn = text;
  const map = new DOMParser().parseFromString(text, 'image/svg+xml').documentElement;
  const empty = map.childElementCount === 0;
  $('no-map').hidden = !empty;
  $('map').hidden = empty;
  $('map').replaceChildren(document.importNode(map, true));
}

function cells(row, chosen) {
  const { in_time: good = 0, late = 0, dropped = 0 } = row.deadlines ?? {};
  const made = good + late + dropped;
  const runs = row.current ? String(row.current) : '–';
  const wanted = row.wanted && row.wanted !== row.current ? ` → ${row.wanted}` : '';
  const phase = row.phase && row.phase !== 'resting' ? ` (${row.phase})` : '';
  return [
    { node: chooser(row.node, row.node === chosen) },
    { text: row.state === 'away' ? `away, ${ago(row.seen_s)}` : row.state, className: `state ${row.state.split(' ')[0]}` },
    `${runs}${wanted}${phase}`,
    row.rung ? `${row.pipeline}, rung ${row.rung}` : row.pipeline,
    { text: count(row.waits), className: 'number' },
    { text: count(sum(row.received)), className: 'number' },
    { text: made ? `${count(late + dropped)} of ${count(made)}` : '–', className: 'number' },
  ];
}

function chooser(name, pressed) {
  const button = buttons.get(name) ?? make('button', name, 'link');
  if (!buttons.has(name)) {
    buttons.set(name, button);
    button.addEventListener('click', () => { location.hash = `node=${encodeURIComponent(name)}`; });
  }
  button.setAttribute('aria-pressed', String(pressed));
  return button;
}

function generation({ generation: number, pipeline, files, settings, wanted, current }) {
  const set = Object.entries(settings).map(([name, value]) => `${name}=${value}`).join(' ');
  const more = Object.keys(files).length - 1;
  const key = `generation ${number}`;
  const button = buttons.get(key) ?? make('button', 'Run again …', 'quiet small');
  if (!buttons.has(key)) {
    buttons.set(key, button);
    button.setAttribute('aria-label', `Run generation ${number} again`);
    button.setAttribute('aria-haspopup', 'dialog');
    button.addEventListener('click', () => rollBack(number, pipeline));
  }
  return [
    { text: number, className: 'number' },
    `${pipeline}${more ? `, ${more} more file${more > 1 ? 's' : ''}` : ''}${set ? `, ${set}` : ''}`,
    wanted.join(', ') || '–',
    current.join(', ') || '–',
    { node: button },
  ];
}
