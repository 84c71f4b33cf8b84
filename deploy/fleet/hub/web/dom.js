// Elements, from text only: what nodes tell never becomes markup.

export const $ = (id) => document.getElementById(id);

export function make(tag, text = '', className = '') {
  const found = document.createElement(tag);
  found.textContent = text;
  if (className) found.className = className;
  return found;
}

// Put rows of cells into a table; a cell is a text, or {text, className, node}. Rows keep their elements, so focus and
// scrolling stay, and only what has changed is written.
export function fill(table, rows, keys) {
  const body = table.tBodies[0];
  const known = new Map([...body.rows].map((row) => [row.dataset.key, row]));
  rows.forEach((cells, at) => {
    const key = String(keys ? keys[at] : at);
    const row = known.get(key) ?? make('tr');
    known.delete(key);
    row.dataset.key = key;
    if (body.rows[at] !== row) body.insertBefore(row, body.rows[at] ?? null);
    cells.forEach((cell, column) => write(row, column, cell));
  });
  for (const row of known.values()) row.remove();
  table.hidden = rows.length === 0;
}

function write(row, column, cell) {
  const { text = '', className = '', node = null } = typeof cell === 'object' ? cell : { text: cell };
  const found = row.cells[column] ?? row.appendChild(make('td'));
  if (found.className !== className) found.className = className;
  if (node) {
    if (found.firstChild !== node) found.replaceChildren(node);
  } else if (found.textContent !== String(text)) found.textContent = text;
}

export function show(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

export const count = (value) => (Number.isFinite(value) ? value.toLocaleString('en') : '–');

export function size(bytes) {
  if (!Number.isFinite(bytes)) return '–';
  if (bytes < 1e3) return `${bytes} B`;
  return bytes < 1e6 ? `${(bytes / 1e3).toFixed(0)} kB` : `${(bytes / 1e6).toFixed(1)} MB`;
}

export function ago(seconds) {
  if (seconds === null || !Number.isFinite(seconds)) return 'never';
  if (seconds < 100) return `${Math.round(seconds)} s ago`;
  return seconds < 6000 ? `${Math.round(seconds / 60)} min ago` : `${Math.round(seconds / 3600)} h ago`;
}

export const clock = (seconds) => {
  const time = new Date(seconds * 1000);
  return Number.isNaN(time.getTime()) ? '–' : time.toISOString().slice(11, 19);
};
