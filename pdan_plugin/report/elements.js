'use strict';

// Shared by tables, viewer and page: elements, and the formatting of values.

const content = JSON.parse(document.getElementById('content').textContent);
const labels = content.runs.map((run) => run.label);
const REASONS = {
  worst: 'among the worst', best: 'among the best', differing: 'where runs differ most', spread: 'evenly spread over the data set',
  only: 'the only one',
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
const counted = (count, word) => `${count.toLocaleString('en')} ${word}${count === 1 ? '' : 's'}`;
const colour = (label) => `var(--run-${labels.indexOf(label) % 6})`;
const swatch = (label) => (labels.length > 1
  ? make('span', { class: 'swatch', style: `background:${colour(label)}`, 'aria-hidden': 'true' }) : null);

/** The format of a column's values: its largest value gives the decimals. */
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
    const measured = metric.name === null ? 'timed' : `scored by ${metric.name}`;
    const lacking = set.runs.map((_, run) => set.images.every((row) => row[3][place][run] === null));
    return {
      ...metric,
      place,
      /** Why a cell is empty; null if it is not. */
      why: (run, value) => (!Number.isNaN(value) ? null : lacking[run] ? `${set.runs[run]} was not ${measured}` : 'no number'),
      title: metric.name === null ? 'Time' : title(metric.name),
      write: writer(metric.name, values),
      measured: values.some((value) => !Number.isNaN(value)),
    };
  }).filter((column) => column.name !== null || column.measured);
}

/** Whether a value is the best of several and one is worse, compared as formatted: 22.37 equals 22.37. */
function isBest(column, value, values) {
  const there = values.filter((one) => !Number.isNaN(one));
  if (Number.isNaN(value) || new Set(there.map(column.write)).size < 2) return false;
  const top = column.higher ? Math.max(...there) : Math.min(...there);
  return column.write(value) === column.write(top);
}
