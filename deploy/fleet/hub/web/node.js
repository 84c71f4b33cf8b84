// The node that was chosen: what it runs and where, what it missed and why, what waits, what it has sent.
import { $, ago, clock, count, fill, make, show, size } from './dom.js';
import { showPictures } from './pictures.js';
import { showVideo } from './video.js';

const CAUSES = { queue: 'waiting in queues', compute: 'computing', link: 'the link' };
let before = null;

export function forget() {
  $('node').hidden = true;
  before = null;
}

export function showNode({ node: row, events, pictures, log, video }) {
  const panel = $('node');
  const fresh = panel.hidden || panel.dataset.node !== row.node;
  panel.dataset.node = row.node;
  panel.hidden = false;
  show($('node-name'), row.node);
  show($('node-state'), row.state);
  $('node-state').className = `state ${row.state.split(' ')[0]}`;
  $('revoke').hidden = row.state === 'revoked';
  if (fresh) before = null;
  facts(row);
  places(row.places);
  deadlines(row);
  const kinds = Object.entries(row.backlog ?? {}).filter(([, held]) => held && typeof held === 'object');
  fill($('backlog'), kinds.map(([kind, held]) => [
    kind, { text: count(held.records), className: 'number' }, { text: size(held.bytes), className: 'number' },
  ]));
  fill($('events'), events.map((event) => [clock(event.time), event.stream, { text: brief(event.told), className: 'code' }]));
  showPictures(row.node, pictures);
  showVideo(row, video);
  const lines = ['agent', 'pipeline'].flatMap((who) => {
    const told = Array.isArray(log?.[who]) ? log[who] : [];
    return told.length ? [`— ${who} —`, ...told] : [];
  });
  show($('log'), lines.length ? lines.join('\n') : 'It comes with the next report of the node.');
  if (fresh) panel.focus({ preventScroll: matchMedia('(min-width: 70rem)').matches });
}

function facts(row) {
  const { trip_ms: trip, bytes } = row.link ?? {};
  const now = performance.now();
  let rate = '';
  if (before && Number.isFinite(bytes) && bytes > before.bytes && now > before.at)
    rate = `, ${count(Math.round(((bytes - before.bytes) * 8) / (now - before.at)))} kbit/s up`;
  if (before === null || bytes !== before.bytes) before = { bytes: bytes ?? 0, at: now, rate };
  else rate = before.rate;
  const place = row.place ? `${row.place[0].toFixed(5)}, ${row.place[1].toFixed(5)}` : '';
  const battery = row.vehicle?.battery;
  const told = {
    seen: ago(row.seen_s),
    runs: row.current ? `generation ${row.current}${row.pipeline ? `, ${row.pipeline}` : ''}` : 'nothing',
    wanted: row.wanted ? `generation ${row.wanted}` : 'nothing',
    phase: row.phase,
    why: row.reason,
    disk: row.disk ? `takes nothing: ${row.disk}` : '',
    link: `${Number.isFinite(trip) ? `acknowledged in ${count(trip)} ms` : '–'}${rate}`,
    'new data': row.live?.count ? `p95 ${count(Math.round(row.live.p95_ms))} ms from capture until it is here` : '',
    place,
    battery: Number.isFinite(battery) ? `${Math.round(battery * 100)} %` : '',
    armed: typeof row.vehicle?.armed === 'boolean' ? (row.vehicle.armed ? 'yes' : 'no') : '',
    'limits': row.rung ? `rung ${row.rung} of its ladder` : '',
    lends: row.lends ? `workers, as ${row.lends}` : '',
    received: list(row.received),
    lost: list(row.lost),
  };
  const shown = Object.entries(told).filter(([, text]) => text);
  const table = $('facts');
  const same = [...table.querySelectorAll('dt')].map((each) => each.textContent).join() === shown.map(([name]) => name).join();
  if (!same) table.replaceChildren(...shown.flatMap(([name]) => [make('dt', name), make('dd')]));
  table.querySelectorAll('dd').forEach((each, at) => show(each, shown[at][1]));
}

const list = (counts) => Object.entries(counts ?? {}).map(([name, number]) => `${count(number)} ${name}`).join(', ');

function places(told) {
  const rows = Object.entries(told).map(([stage, text]) => {
    const [where, why = ''] = text.split(/, since (.*)/s);
    return [stage, where, why];
  });
  fill($('places'), rows);
  $('no-places').hidden = rows.length > 0;
}

function deadlines(row) {
  const { in_time: good = 0, late = 0, dropped = 0 } = row.deadlines ?? {};
  const made = good + late + dropped;
  show($('deadlines'), made
    ? `${count(good)} of ${count(made)} in time, ${count(late)} late, ${count(dropped)} dropped on their way`
    : 'Nothing with a deadline has come out.');
  const causes = Object.entries(row.causes).filter(([cause]) => cause in CAUSES);
  const bar = $('causes');
  bar.hidden = $('cause-list').hidden = causes.length === 0;
  bar.setAttribute('aria-label', `Missed because of: ${causes.map(([cause, number]) => `${CAUSES[cause]} ${number}`).join(', ')}`);
  const all = causes.reduce((sum, [, number]) => sum + number, 0);
  bar.replaceChildren(...causes.map(([cause, number]) => {
    const part = make('i', '', `cause-${cause}`);
    part.style.flexGrow = number / all;
    return part;
  }));
  $('cause-list').replaceChildren(...causes.map(([cause, number]) => make('li', `${count(number)} missed for ${CAUSES[cause]}`, `cause-${cause}`)));
}

function brief(told) {
  const text = JSON.stringify(told?.payload ?? told) ?? '';
  return text.length > 240 ? `${text.slice(0, 240)} …` : text;
}
