// Figures as people read them. A figure that is not there is a dash.

const NONE = "–";
const whole = new Intl.NumberFormat("en-US");
const three = new Intl.NumberFormat("en-US", { maximumSignificantDigits: 3 });

export const count = (value) => whole.format(value);

export const rate = (value) => (value >= 100 ? whole.format(Math.round(value)) : three.format(value));

export function percent(share) {
  if (share === null) return NONE;
  const points = share * 100;
  // 99.96% must not read as all of them.
  const digits = points > 99 && points < 100 ? Math.floor(points * 10) / 10 : points >= 10 ? Math.round(points) : Number(points.toFixed(1));
  return `${digits}%`;
}

export function seconds(value) {
  if (value === null) return NONE;
  if (value >= 1) return `${three.format(value)} s`;
  return `${three.format(value * 1000)} ms`;
}

export function duration(total) {
  const [days, hours] = [Math.floor(total / 86_400), Math.floor(total / 3600) % 24];
  const minutes = Math.floor(total / 60) % 60;
  if (days) return `${days} d ${hours} h`;
  if (hours) return `${hours} h ${minutes} min`;
  return minutes ? `${minutes} min ${Math.floor(total % 60)} s` : `${Math.floor(total)} s`;
}

// Several times in one unit, that of the longest.
export function together(values) {
  if (values === null) return NONE;
  const longest = Math.max(...values);
  const [factor, unit] = longest >= 1 ? [1, "s"] : [1000, "ms"];
  const digits = factor === 1 ? 2 : longest < 0.01 ? 1 : 0;
  return `${values.map((value) => (value * factor).toFixed(digits)).join(" · ")} ${unit}`;
}
