// Tables that sort, and the values over the frames.

function means(set, columns) {
  const head = make('tr', {}, make('th', { scope: 'col', class: 'name at-0' }, 'Run'), ...columns.map((column) => make(
    'th', { scope: 'col', class: 'number' }, column.name === null ? 'Time' : `${column.title} ${column.higher ? '↑' : '↓'}`)));
  const rows = set.runs.map((run, at) => make('tr', {}, make('th', { scope: 'row', class: 'name at-0' }, swatch(run), run),
    ...columns.map((column) => {
      const values = set.means[column.place].map(number);
      const cell = make('td', { class: 'number', title: column.why(at, values[at]) }, column.write(values[at]));
      if (isBest(column, values[at], values)) cell.classList.add('best');
      const gap = values[at] - values[0];
      if (at > 0 && column.name !== null && Number.isFinite(gap)) {
        cell.append(make('span', {}, `${gap < 0 ? '−' : '+'}${column.write(Math.abs(gap))}`));
      }
      return cell;
    })));
  return wide(make('table', { class: 'means' }, make('thead', {}, head), make('tbody', {}, ...rows)));
}

const ROWS = 200; // rows of a long table at a time: thousands at once are slow on a phone
const alphabet = new Intl.Collator('en', { numeric: true });

/** A box around a table or picture that may be wider than the page, with a hint while there is more to the right. */
function wide(table, attributes = {}) {
  const hint = make('p', { class: 'sideways', hidden: true }, 'Scroll sideways for more →');
  const box = make('div', { ...attributes, class: `scroll ${attributes.class ?? ''}` }, table);
  const look = () => {
    const names = [...table.querySelectorAll('thead tr:first-child .name')].map((cell) => cell.getBoundingClientRect().width);
    table.style.setProperty('--second', `${names[0] ?? 0}px`);
    const held = names.reduce((sum, width) => sum + width, 0);
    box.classList.toggle('held', held < 0.6 * box.clientWidth); // names are not fixed if they leave no room for values
    hint.hidden = box.scrollLeft + box.clientWidth >= box.scrollWidth - 2;
    if (box.scrollWidth > box.clientWidth + 1) box.tabIndex = 0; // so that arrow keys can scroll it
  };
  box.addEventListener('scroll', look, { passive: true });
  new ResizeObserver(look).observe(box);
  return make('div', { class: 'wide' }, hint, box);
}

/**
 * A table whose every column sorts. `names`: [{title, of(row), cell(row)?}] in front of the values; `valuesOf(row)`: a
 * row's values by column and run, as columnsOf numbers them. A long one is filled as it is scrolled.
 */
function sortable(caption, set, columns, rows, names, valuesOf) {
  const several = set.runs.length > 1;
  const body = make('tbody');
  const heads = [];
  const direction = { column: -1, down: false };
  const range = columns.map((column) => {
    let [low, high] = [Infinity, -Infinity];
    for (const row of rows) {
      for (const value of valuesOf(row)[column.place].map(number).filter(Number.isFinite)) {
        low = Math.min(low, value);
        high = Math.max(high, value);
      }
    }
    return [low, high];
  });
  const lines = rows.map((row) => ({
    row, element: null, keys: [...names.map((name) => name.of(row)), ...columns.flatMap((column) => valuesOf(row)[column.place].map(number))],
  }));
  const kind = (place) => `name at-${place}${typeof names[place].of(rows[0]) === 'number' ? ' number' : ''}`;

  function filled(line) {
    if (line.element) return line.element;
    const cells = names.map((name, place) => make('td', { class: kind(place) }, name.cell ? name.cell(line.row) : String(name.of(line.row))));
    columns.forEach((column, at) => {
      const values = valuesOf(line.row)[column.place].map(number);
      values.forEach((value, run) => {
        const [low, high] = range[at];
        const share = Number.isFinite(value) && high > low ? 4 + (96 * (value - low)) / (high - low) : 0;
        const marks = ['number', isBest(column, value, values) ? 'best' : '', several && run === 0 ? 'first' : ''].join(' ').trim();
        cells.push(make('td', { class: marks, style: `--share:${share.toFixed(1)}%`, title: column.why(run, value) }, column.write(value)));
      });
    });
    line.element = make('tr', {}, ...cells);
    return line.element;
  }

  const rest = make('p', { class: 'rest' });
  function grow(count) {
    const there = body.childElementCount;
    body.append(...lines.slice(there, there + count).map(filled));
    const left = lines.length - body.childElementCount;
    rest.hidden = left === 0;
    rest.replaceChildren(`${counted(left, 'more row')} below: scroll, or `,
      make('button', { type: 'button', onclick: () => grow(lines.length) }, 'show all'));
  }

  function sort(column) {
    direction.down = direction.column === column ? !direction.down : false;
    direction.column = column;
    const sign = direction.down ? -1 : 1;
    lines.sort((one, other) => {
      const [a, b] = [one.keys[column], other.keys[column]];
      if (typeof a === 'string') return sign * alphabet.compare(a, b);
      if (Number.isNaN(a) || Number.isNaN(b)) return Number.isNaN(a) - Number.isNaN(b); // rows without a value stay at the end
      return a === b ? 0 : sign * (a < b ? -1 : 1);
    });
    const count = Math.max(ROWS, body.childElementCount);
    body.replaceChildren();
    grow(count);
    box.scrollTop = 0;
    heads.forEach((head, at) => head.setAttribute('aria-sort', at !== column ? 'none' : direction.down ? 'descending' : 'ascending'));
  }

  function head(text, attributes) {
    const column = heads.length;
    const element = make('th', { scope: 'col', 'aria-sort': 'none', ...attributes }, make('button', { type: 'button', onclick: () => sort(column) }, make('span', { class: 'told' }, ...text)));
    heads.push(element);
    return element;
  }

  const first = make('tr', {}, ...names.map((name, place) => head([name.title], { rowspan: several ? 2 : null, class: kind(place) })));
  const second = make('tr');
  for (const column of columns) {
    if (!several) first.append(head([column.title], { class: 'number' }));
    else {
      first.append(make('th', { class: 'group', scope: 'colgroup', colspan: set.runs.length }, column.title));
      set.runs.forEach((run, at) => second.append(head([swatch(run) ?? '', run], { class: at ? 'number' : 'number first' })));
    }
  }
  grow(ROWS);
  const table = make('table', { 'aria-label': caption }, make('thead', {}, first, ...(several ? [second] : [])), body);
  const element = wide(table, { class: 'tall', tabindex: '0', role: 'region', 'aria-label': caption });
  const box = element.querySelector('.scroll');
  box.addEventListener('scroll', () => {
    if (box.scrollTop + 2 * box.clientHeight > box.scrollHeight) grow(ROWS);
  }, { passive: true });
  window.addEventListener('beforeprint', () => grow(lines.length));
  element.append(rest);
  return element;
}

/** The chosen metric over the frames, a line for each run; pointing at a place shows its values. */
function chart(set, column, show) {
  const count = set.images.length;
  const values = set.runs.map((_, run) => set.images.map((row) => number(row[3][column.place][run])));
  const finite = values.flat().filter(Number.isFinite);
  if (count < 3 || finite.length < 3) return null;
  const [W, H, L, R, T, B] = [1000, 170, 48, 6, 8, 18];
  let [low, high] = [Math.min(...finite), Math.max(...finite)];
  if (low === high) [low, high] = [low - 1, high + 1];
  const svg = (name, attributes, text) => {
    const element = document.createElementNS('http://www.w3.org/2000/svg', name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    if (text !== undefined) element.textContent = text;
    return element;
  };
  const picture = svg('svg', { role: 'img', 'aria-label': `${column.title} over the frames, in the data set's order` });
  const readout = make('p', { class: 'readout' });
  const marker = svg('line', { class: 'at', y1: 0, y2: '100%', visibility: 'hidden' });
  const at = (event) => {
    const box = picture.getBoundingClientRect();
    const place = ((event.clientX - box.left - L) / (box.width - L - R)) * (count - 1);
    return Math.max(0, Math.min(count - 1, Math.round(place)));
  };
  function draw() {
    const width = picture.getBoundingClientRect().width || W;
    const height = picture.getBoundingClientRect().height || H;
    const place = (value) => L + ((width - L - R) * value) / (count - 1);
    const level = (value) => T + (height - T - B) * (1 - (value - low) / (high - low));
    picture.replaceChildren();
    for (const value of [low, (low + high) / 2, high]) {
      picture.append(svg('line', { class: 'grid', x1: L, x2: width - R, y1: level(value), y2: level(value) }));
      picture.append(svg('text', { x: L - 6, y: level(value) + 4, 'text-anchor': 'end' }, column.write(value)));
    }
    let previous = null;
    let written = -100;
    set.images.forEach((row, number) => {
      if (row[1] === previous || !row[1]) return;
      previous = row[1];
      if (number) picture.append(svg('line', { class: 'grid', x1: place(number - 0.5), x2: place(number - 0.5), y1: T, y2: height - B }));
      if (place(number) - written < 9 * row[1].length + 8) return;
      written = place(number);
      picture.append(svg('text', { x: written, y: height - 4 }, row[1]));
    });
    values.forEach((line, run) => {
      let path = '';
      line.forEach((value, number) => {
        if (value === Infinity) picture.append(svg('text', { x: place(number), y: T + 4, 'text-anchor': 'middle' }, '∞'));
        if (!Number.isFinite(value)) return;
        const goesOn = Number.isFinite(line[number - 1]);
        path += `${goesOn ? 'L' : 'M'}${place(number).toFixed(1)} ${level(value).toFixed(1)}`;
        if (!goesOn && !Number.isFinite(line[number + 1])) path += 'h0.1'; // alone between gaps: a dot
      });
      picture.append(svg('path', { d: path, style: `stroke:${colour(set.runs[run])}` }));
    });
    picture.append(marker);
  }
  function tell(number) {
    const width = picture.getBoundingClientRect().width;
    const place = L + ((width - L - R) * number) / (count - 1);
    marker.setAttribute('x1', place);
    marker.setAttribute('x2', place);
    marker.setAttribute('visibility', 'visible');
    readout.replaceChildren(make('span', {}, set.images[number][0]),
      ...set.runs.map((run, at) => make('span', {}, swatch(run) ?? '', `${set.runs.length > 1 ? `${run} ` : ''}${column.write(values[at][number])}`)));
  }
  picture.addEventListener('pointermove', (event) => tell(at(event)));
  picture.addEventListener('click', (event) => { tell(at(event)); show?.(set.images[at(event)][0], false); });
  readout.append(...set.runs.map((run) => make('span', {}, swatch(run) ?? '', set.runs.length > 1 ? run : 'Point at the line to read a frame')));
  new ResizeObserver(draw).observe(picture);
  return make('div', { class: 'chart' }, picture, readout);
}
