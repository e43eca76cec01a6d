// The round-trip time as a small plot: one measure a second, the last minute of them.

const KEPT = 60;
const LOST = "lost";
const WIDTH = 240; // of the viewBox; the plot is stretched to what room it has
const HEIGHT = 64;

/**
 * Measure once a second while the page can be seen. `ask()` gives a promise that settles with
 * the answer, or null while there is nobody to ask: then the line has a gap.
 */
export function plotRoundTrips(figure, ask) {
  const values = new Array(KEPT).fill(null);
  let isAsking = false;

  async function measure() {
    if (document.hidden || isAsking) return;
    isAsking = true;
    const start = performance.now();
    let value = null;
    try {
      const answer = ask();
      if (answer) {
        await answer;
        value = performance.now() - start;
      }
    } catch {
      value = LOST;
    }
    isAsking = false;
    values.push(value);
    values.shift();
    draw(figure, values);
  }

  measure();
  setInterval(measure, 1000);
}

function draw(figure, values) {
  const known = values.filter((value) => typeof value === "number");
  const top = roundUp(Math.max(...known, 0.1));
  const x = (index) => ((index / (KEPT - 1)) * WIDTH).toFixed(1);
  const y = (value) => (HEIGHT - (value / top) * (HEIGHT - 2)).toFixed(1);
  let line = "";
  let area = "";
  let lost = "";
  for (let start = 0; start < KEPT; start++) {
    if (values[start] === LOST) lost += `M${x(start)} ${HEIGHT}V${HEIGHT - 14}`;
    if (typeof values[start] !== "number") continue;
    let end = start;
    while (typeof values[end + 1] === "number") end++;
    const points = values.slice(start, end + 1).map((value, i) => `${x(start + i)} ${y(value)}`);
    const run = points.length > 1 ? points : [points[0], points[0]]; // one point is a dot
    line += `M${run.join("L")}`;
    area += `M${x(start)} ${HEIGHT}L${run.join("L")}L${x(end)} ${HEIGHT}Z`;
    start = end;
  }
  const part = (selector) => figure.querySelector(selector);
  part(".line").setAttribute("d", line);
  part(".area").setAttribute("d", area);
  part(".lost").setAttribute("d", lost);

  const last = values.at(-1);
  const middle = [...known].sort((a, b) => a - b)[known.length >> 1];
  part("b").textContent = last === null ? "–" : last === LOST ? "no answer" : `${inMs(last)} ms`;
  part("span").textContent = known.length ? `median ${inMs(middle)}` : "";
  part(".scale").textContent = known.length ? `${top} ms` : "";
  part("svg").setAttribute(
    "aria-label",
    known.length
      ? `Round-trip time of the last minute: median ${inMs(middle)} ms, at most ` +
          `${inMs(Math.max(...known))} ms`
      : "Round-trip time: nothing measured yet",
  );
}

function inMs(value) {
  return value < 9.95 ? value.toFixed(1) : value.toFixed(0);
}

/** The next of 1, 2, 5, 10, 20, 50 ...: a scale that does not change all the time. */
function roundUp(value) {
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].map((step) => step * power).find((step) => step >= value);
}
