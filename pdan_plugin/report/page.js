'use strict';
(() => {
  const content = JSON.parse(document.getElementById('content').textContent);
  const labels = content.runs.map((run) => run.label);
  const REASONS = {
    worst: 'among the worst', best: 'among the best', differing: 'where runs differ most', spread: 'one of some spread over the set',
  };

  /** An element; strings among the children become text, never markup. */
  function make(name, attributes = {}, ...children) {
    const element = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) {
      if (value === null || value === undefined || value === false) continue;
      if (key.startsWith('on')) element.addEventListener(key.slice(2), value);
      else element.setAttribute(key, value === true ? '' : value);
    }
    element.append(...children.filter((child) => child !== null));
    return element;
  }

  const number = (value) => (value === null || value === undefined ? NaN : Number(value));
  const colour = (label) => `var(--run-${labels.indexOf(label) % 6})`;
  const swatch = (label) => (labels.length > 1
    ? make('span', { class: 'swatch', style: `background:${colour(label)}`, 'aria-hidden': 'true' }) : null);

  /** How a column's values are written: decimals by the size of its largest. */
  function writer(metric, values) {
    if (metric === null) {
      return (value) => {
        if (Number.isNaN(value)) return '–';
        return value < 1 ? `${(value * 1000).toPrecision(3).replace(/\.$/, '')} ms` : `${value.toPrecision(3)} s`;
      };
    }
    const largest = Math.max(0, ...values.filter(Number.isFinite).map(Math.abs));
    const decimals = largest >= 10 ? 2 : 4;
    return (value) => (Number.isNaN(value) ? '–' : Number.isFinite(value) ? value.toFixed(decimals) : value > 0 ? '∞' : '−∞');
  }

  const title = (metric) => (/^(psnr|ssim|lpips|niqe)$/i.test(metric) ? metric.toUpperCase() : metric);

  /** Columns of values: the metrics, then seconds (metric null), each with a value for each run. */
  function columnsOf(set) {
    const metrics = [...set.metrics, { name: null, higher: false }];
    return metrics.map((metric, place) => {
      const values = set.images.flatMap((row) => row[3][place].map(number));
      return {
        ...metric,
        place,
        title: metric.name === null ? 'Time' : title(metric.name),
        write: writer(metric.name, values),
        measured: values.some((value) => !Number.isNaN(value)),
      };
    }).filter((column) => column.name !== null || column.measured);
  }

  /** Whether none of several values is better, as they are written: 22.37 is no better than 22.37. */
  function isBest(column, value, values) {
    const there = values.filter((one) => !Number.isNaN(one));
    if (there.length < 2) return false;
    const top = column.higher ? Math.max(...there) : Math.min(...there);
    return column.write(value) === column.write(top);
  }

  function means(set, columns) {
    const head = make('tr', {}, make('th', { scope: 'col' }, 'Run'), ...columns.map((column) => make(
      'th', { scope: 'col', class: 'number' }, column.name === null ? 'Time' : `${column.title} ${column.higher ? '↑' : '↓'}`)));
    const rows = set.runs.map((run, at) => make('tr', {}, make('th', { scope: 'row' }, swatch(run), run),
      ...columns.map((column) => {
        const values = set.means[column.place].map(number);
        const cell = make('td', { class: 'number' }, column.write(values[at]));
        if (isBest(column, values[at], values)) cell.classList.add('best');
        const gap = values[at] - values[0];
        if (at > 0 && column.name !== null && Number.isFinite(gap)) {
          cell.append(make('span', {}, `${gap < 0 ? '−' : '+'}${column.write(Math.abs(gap))}`));
        }
        return cell;
      })));
    return make('div', { class: 'scroll means-box' }, make('table', { class: 'means' }, make('thead', {}, head), make('tbody', {}, ...rows)));
  }

  /** A table whose every column sorts. `names`: [{title, of(row)}] in front of the values, `valuesOf(row)`: see columnsOf. */
  function sortable(caption, set, columns, rows, names, valuesOf) {
    const several = set.runs.length > 1;
    const body = make('tbody');
    const heads = [];
    const direction = { column: -1, down: false };
    const range = columns.map((column) => {
      const values = rows.flatMap((row) => valuesOf(row)[column.place].map(number)).filter(Number.isFinite);
      return [Math.min(...values), Math.max(...values)];
    });
    const lines = rows.map((row) => {
      const keys = names.map((name) => name.of(row));
      const cells = names.map((name) => make(
        'td', { class: typeof name.of(row) === 'number' ? 'number' : null }, name.cell ? name.cell(row) : String(name.of(row))));
      columns.forEach((column, at) => {
        const values = valuesOf(row)[column.place].map(number);
        values.forEach((value, run) => {
          keys.push(value);
          const [low, high] = range[at];
          const share = Number.isFinite(value) && high > low ? 4 + (96 * (value - low)) / (high - low) : 0;
          const marks = ['number', isBest(column, value, values) ? 'best' : '', several && run === 0 ? 'first' : ''].join(' ').trim();
          cells.push(make('td', { class: marks, style: `--share:${share.toFixed(1)}%` }, column.write(value)));
        });
      });
      return { keys, element: make('tr', {}, ...cells) };
    });

    function sort(column) {
      direction.down = direction.column === column ? !direction.down : false;
      direction.column = column;
      const sign = direction.down ? -1 : 1;
      lines.sort((one, other) => {
        const [a, b] = [one.keys[column], other.keys[column]];
        if (typeof a === 'string') return sign * a.localeCompare(b, 'en', { numeric: true });
        if (Number.isNaN(a) || Number.isNaN(b)) return Number.isNaN(a) - Number.isNaN(b); // what has no value stays below
        return a === b ? 0 : sign * (a < b ? -1 : 1);
      });
      body.append(...lines.map((line) => line.element));
      heads.forEach((head, at) => head.setAttribute('aria-sort', at !== column ? 'none' : direction.down ? 'descending' : 'ascending'));
    }

    function head(text, attributes) {
      const column = heads.length;
      const element = make('th', { scope: 'col', 'aria-sort': 'none', ...attributes }, make('button', { type: 'button', onclick: () => sort(column) }, ...text));
      heads.push(element);
      return element;
    }

    const first = make('tr', {}, ...names.map((name) => head([name.title], { rowspan: several ? 2 : null, class: typeof name.of(rows[0]) === 'number' ? 'number' : null })));
    const second = make('tr');
    for (const column of columns) {
      if (!several) first.append(head([column.title], { class: 'number' }));
      else {
        first.append(make('th', { class: 'group', scope: 'colgroup', colspan: set.runs.length }, column.title));
        set.runs.forEach((run, at) => second.append(head([swatch(run) ?? '', run], { class: at ? 'number' : 'number first' })));
      }
    }
    body.append(...lines.map((line) => line.element));
    return make('div', { class: 'scroll tall', tabindex: '0', role: 'region', 'aria-label': caption },
      make('table', { 'aria-label': caption }, make('thead', {}, first, ...(several ? [second] : [])), body));
  }

  /** The chosen metric over the frames, a line for each run; pointing at a place tells its values. */
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
          if (Number.isFinite(value)) path += `${path && Number.isFinite(line[number - 1]) ? 'L' : 'M'}${place(number).toFixed(1)} ${level(value).toFixed(1)}`;
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

  /** Two pictures of a frame under a divider that is dragged, touched or moved by keys. */
  function viewer(set, column) {
    const state = { frame: 0, at: 50, zoom: 1, x: 0, y: 0, left: null, right: null };
    const images = { left: make('img', { alt: '', draggable: 'false' }), right: make('img', { alt: '', draggable: 'false' }) };
    const tags = { left: make('span', { class: 'tag left' }), right: make('span', { class: 'tag right' }) };
    const spot = make('div', { class: 'spot' });
    const handle = make('div', {
      class: 'handle', role: 'slider', tabindex: '0', 'aria-label': 'Divider between the two pictures', 'aria-valuemin': '0', 'aria-valuemax': '100',
    });
    const stage = make('div', { class: 'stage' }, make('div', { class: 'pane right' }, images.right),
      make('div', { class: 'pane left' }, images.left), spot, tags.left, tags.right, handle);
    const frames = make('select', { onchange: () => { state.frame = frames.selectedIndex; fill(); } },
      ...set.frames.map((frame) => make('option', {}, `${frame.image} – ${REASONS[frame.reason]}`)));
    const sides = {};
    for (const side of ['left', 'right']) {
      sides[side] = make('select', { onchange: () => { state[side] = sides[side].value; fill(); } });
    }
    const zooms = [1, 2, 4].map((zoom) => make('button', { type: 'button', onclick: () => magnify(zoom) }, `${zoom}×`));
    const hint = make('p', { class: 'hint' });

    function choices() {
      const frame = set.frames[state.frame];
      const all = new Map();
      for (const picture of frame.pictures) {
        const value = number(picture.value);
        const told = Number.isNaN(value) ? '' : ` ${column.write(value)}`;
        all.set(`whole ${picture.kind} ${picture.label}`, { label: picture.label, told, uri: picture.whole });
      }
      for (const picture of frame.pictures) {
        if (picture.error) all.set(`error ${picture.kind} ${picture.label}`, { label: `Error of ${picture.label}`, told: '', uri: picture.error });
      }
      return all;
    }

    function fill() {
      const frame = set.frames[state.frame];
      const all = choices();
      const keys = [...all.keys()];
      const runs = keys.filter((key) => key.startsWith('whole run'));
      const other = keys.find((key) => key.startsWith('whole input')) ?? keys.find((key) => key.startsWith('whole gt'));
      if (!all.has(state.left)) state.left = runs.length > 1 ? runs[0] : other ?? runs[0];
      if (!all.has(state.right)) state.right = runs[runs.length - 1];
      for (const side of ['left', 'right']) {
        sides[side].replaceChildren(...keys.map((key) => make('option', { value: key }, all.get(key).label)));
        sides[side].value = state[side];
        const { uri, label, told } = all.get(state[side]);
        images[side].src = uri;
        images[side].alt = `${label}, frame ${frame.image}`;
        tags[side].textContent = label + told;
      }
      frames.selectedIndex = state.frame;
      const [width, height] = frame.size;
      stage.style.aspectRatio = `${width} / ${height}`;
      stage.style.maxWidth = `calc(82vh * ${width / height})`;
      const [left, top, wide, high] = frame.box;
      spot.style.cssText = `left:${(100 * left) / width}%;top:${(100 * top) / height}%;width:${(100 * wide) / width}%;height:${(100 * high) / height}%`;
      const smaller = frame.shown_width < width ? `, shown ${frame.shown_width} pixels wide` : '';
      hint.textContent = `${width}×${height}${smaller}, WebP quality ${frame.quality}. Drag the divider, or use the arrow keys on it; magnified, drag the picture. The frame marks the detail below.`;
      magnify(state.zoom);
    }

    function place() {
      state.at = Math.max(0, Math.min(100, state.at));
      stage.style.setProperty('--at', `${state.at}%`);
      handle.setAttribute('aria-valuenow', String(Math.round(state.at)));
      handle.setAttribute('aria-valuetext', `${Math.round(state.at)} percent ${tags.left.textContent}`);
      const least = 1 - state.zoom;
      state.x = Math.max(least, Math.min(0, state.x));
      state.y = Math.max(least, Math.min(0, state.y));
      for (const image of Object.values(images)) {
        image.style.transform = `translate(${100 * state.x}%, ${100 * state.y}%) scale(${state.zoom})`;
      }
    }

    /** Magnifies about the marked detail when starting from the whole, else about the middle of what is seen. */
    function magnify(zoom) {
      const { size, box } = set.frames[state.frame];
      const middle = state.zoom === 1
        ? [(box[0] + box[2] / 2) / size[0], (box[1] + box[3] / 2) / size[1]]
        : [(0.5 - state.x) / state.zoom, (0.5 - state.y) / state.zoom];
      state.zoom = zoom;
      state.x = 0.5 - middle[0] * zoom;
      state.y = 0.5 - middle[1] * zoom;
      zooms.forEach((button, at) => button.setAttribute('aria-pressed', String([1, 2, 4][at] === zoom)));
      stage.classList.toggle('zoomed', zoom > 1);
      stage.classList.toggle('close', zoom > 2);
      place();
    }

    let drag = null;
    stage.addEventListener('pointerdown', (event) => {
      if (event.button !== 0) return;
      const divides = state.zoom === 1 || event.target === handle;
      drag = { divides, x: event.clientX, y: event.clientY };
      stage.setPointerCapture(event.pointerId);
      stage.classList.add('held');
      if (divides) { handle.focus({ preventScroll: true }); follow(event); }
      if (event.pointerType === 'mouse') event.preventDefault();
    });
    function follow(event) {
      const box = stage.getBoundingClientRect();
      if (drag.divides) state.at = (100 * (event.clientX - box.left)) / box.width;
      else {
        state.x += (event.clientX - drag.x) / box.width;
        state.y += (event.clientY - drag.y) / box.height;
        drag.x = event.clientX;
        drag.y = event.clientY;
      }
      place();
    }
    stage.addEventListener('pointermove', (event) => { if (drag) follow(event); });
    for (const end of ['pointerup', 'pointercancel', 'lostpointercapture']) {
      stage.addEventListener(end, () => { drag = null; stage.classList.remove('held'); });
    }
    handle.addEventListener('keydown', (event) => {
      const step = event.shiftKey ? 10 : 2;
      const moves = { ArrowLeft: -step, ArrowDown: -step, ArrowRight: step, ArrowUp: step, PageDown: -20, PageUp: 20, Home: -100, End: 100 };
      if (!(event.key in moves)) return;
      event.preventDefault();
      state.at += moves[event.key];
      place();
    });
    fill();
    const element = make('div', { class: 'viewer' }, make('div', { class: 'bar' }, make('label', {}, 'Frame', frames),
      make('label', {}, 'Left', sides.left), make('label', {}, 'Right', sides.right),
      make('div', { class: 'zoom', role: 'group', 'aria-label': 'Magnification' }, 'Magnify', make('div', {}, ...zooms))), stage, hint);
    /** Shows the frame of that name, if it has pictures, and says whether it has. */
    const show = (image, scroll = true) => {
      const found = set.frames.findIndex((frame) => frame.image === image);
      if (found < 0) return false;
      state.frame = found;
      fill();
      if (scroll) { element.scrollIntoView({ block: 'start' }); frames.focus({ preventScroll: true }); }
      return true;
    };
    return { element, show };
  }

  function details(set, column, show) {
    return make('div', { class: 'frames' }, ...set.frames.map((frame) => {
      const results = frame.pictures.filter((picture) => picture.kind === 'run').map((picture) => number(picture.value));
      const figures = frame.pictures.map((picture) => {
        const value = number(picture.value);
        const told = column && !Number.isNaN(value) ? make('span', { class: picture.kind === 'run' && isBest(column, value, results) ? 'best' : null }, `${column.title} ${column.write(value)}`) : null;
        return make('figure', {}, make('img', { src: picture.detail, alt: `Detail of ${frame.image}, ${picture.label}`, width: frame.box[2], height: frame.box[3] }),
          picture.error_detail ? make('img', { src: picture.error_detail, alt: `Error of ${picture.label} there`, width: frame.box[2], height: frame.box[3] }) : null,
          make('figcaption', {}, picture.label, told));
      });
      const [left, top_, width, height] = frame.box;
      return make('article', { class: 'frame' }, make('header', {}, make('h4', {}, frame.image),
        make('p', {}, `${REASONS[frame.reason]}; ${width}×${height} pixels at ${left}, ${top_}`),
        make('button', { type: 'button', onclick: () => show(frame.image) }, 'Whole frame')),
      make('div', { class: 'details', style: `--count:${Math.max(3, figures.length)};--narrow:${figures.length === 3 ? 3 : 2}` }, ...figures));
    }));
  }

  function dataset(set, id) {
    const columns = columnsOf(set);
    const column = columns.find((one) => one.name === set.chosen_by && one.name !== null) ?? columns[0];
    const clips = set.clips.length > 0;
    const section = make('section', { id }, make('h2', {}, set.name),
      make('p', { class: 'sub' }, `${set.total} images${clips ? ` in ${set.clips.length} clips` : ''}. Means over the images${set.runs.length > 1 ? `; differences are from ${set.runs[0]}` : ''}.`),
      means(set, columns), ...set.notes.map((note) => make('p', { class: 'note' }, note)));
    let show = () => false;
    if (set.frames.length) {
      const view = viewer(set, column ?? { write: String, title: '' });
      show = view.show;
      const by = column && column.name !== null ? `, chosen by ${column.title}` : '';
      section.append(make('h3', {}, 'Before and after'), make('p', { class: 'sub' }, `${set.frames.length} of ${set.total} frames have pictures here${by}.`), view.element);
      const truth = set.frames.some((frame) => frame.pictures.some((picture) => picture.kind === 'gt'));
      const several = set.frames.some((frame) => frame.pictures.filter((picture) => picture.kind === 'run').length > 1);
      const where = several ? 'Where the runs differ most' : truth ? 'Where the error is largest' : 'Where the result differs most from the input, or holds most contours';
      section.append(make('h3', {}, 'Details'), make('p', { class: 'sub' },
        `${where} in each frame, pixel for pixel.${truth ? ` Below each, its error against the ground truth: black is none, pale yellow ${content.error_range} grey levels or more.` : ''}`),
      details(set, column?.name === null ? null : column, show));
    }
    const main = column && column.name !== null ? chart(set, column, show) : null;
    if (main) section.append(make('h3', {}, `${column.title} over the frames`), main);
    if (clips) {
      section.append(make('h3', {}, 'By clip'), sortable(`Means by clip, ${set.name}`, set, columns, set.clips,
        [{ title: 'Clip', of: (row) => row[0] }, { title: 'Images', of: (row) => row[1] }], (row) => row[2]));
    }
    const named = set.images.every((row) => row[1] && row[2]);
    const shown = new Set(set.frames.map((frame) => frame.image));
    const link = (row, text) => (shown.has(row[0]) ? make('button', { type: 'button', onclick: () => show(row[0]) }, text) : text);
    const names = named
      ? [{ title: 'Clip', of: (row) => row[1] }, { title: 'Frame', of: (row) => row[2], cell: (row) => link(row, row[2]) }]
      : [{ title: 'Image', of: (row) => row[0], cell: (row) => link(row, row[0]) }];
    if (set.images.length) {
      section.append(make('h3', {}, 'By frame'), sortable(`By frame, ${set.name}`, set, columns, set.images, names, (row) => row[3]));
    }
    return section;
  }

  function facts() {
    const names = [...new Set(content.runs.flatMap((run) => run.facts.map((fact) => fact[0])))];
    const head = make('tr', {}, make('td'), ...content.runs.map((run) => make('th', { scope: 'col' }, swatch(run.label), run.label)));
    const rows = names.map((name) => make('tr', {}, make('th', { scope: 'row' }, name),
      ...content.runs.map((run) => make('td', {}, run.facts.find((fact) => fact[0] === name)?.[1] ?? '–'))));
    return make('section', { id: 'runs' }, make('h2', {}, 'What was run'),
      make('div', { class: 'scroll means-box' }, make('table', { class: 'facts' }, make('thead', {}, head), make('tbody', {}, ...rows))));
  }

  function curves() {
    return make('section', { id: 'training', class: 'curves' }, make('h2', {}, 'Training'), ...content.curves.flatMap((curve) => [
      make('h3', {}, content.runs.length > 1 ? `${curve.label}: experiment ${curve.experiment}` : `Experiment ${curve.experiment}`),
      curve.picture ? make('img', { src: curve.picture, alt: `Losses, learning rate and scores of ${curve.experiment} over its iterations` })
        : make('p', { class: 'note' }, curve.note)]));
  }

  const main = document.querySelector('main');
  const nav = document.querySelector('nav');
  content.datasets.forEach((set, at) => {
    main.append(dataset(set, `data-${at}`));
    nav.append(make('a', { href: `#data-${at}` }, set.name));
  });
  main.append(facts());
  nav.append(make('a', { href: '#runs' }, 'What was run'));
  if (content.curves.length) {
    main.append(curves());
    nav.append(make('a', { href: '#training' }, 'Training'));
  }
  document.querySelector('footer').append(`Made ${content.made}.`);
})();
