// Numbers for people: three digits and a unit.

export const MINUS = "\u2212", NONE = "\u2013", THIN = "\u202f";
export const LEARNT = [ // field, what it is called, unit
  ["policy_loss", "policy loss", ""], ["value_loss", "value loss", ""], ["entropy_nats", "entropy", "nats"],
  ["kl_nats", "divergence", "nats"], ["clipped_ratio", "clipped share", ""], ["gradient_norm", "gradient norm", ""],
  ["residual_norm", "residual norm", ""], ["explained_variance", "explained variance", ""],
];
const UNITS = [[999.5e6, "G", 1e9], [999.5e3, "M", 1e6], [9999.5, "k", 1e3], [0, "", 1]];

/** With a unit above ten thousand. padded: with zeros behind the point, so that what is in one column lines up. */
export function count(value, digits = 3, padded = true) {
  if (value === null || value === undefined) return NONE;
  const size = Math.abs(value);
  const [, unit, scale] = UNITS.find(([least]) => size >= least);
  const before = 1 + Math.floor(Math.log10(Math.max((size / scale) * 1.0005, 1))); // as it will be rounded
  const most = Math.max(0, digits - before), least = padded && !(unit === "" && Number.isInteger(value)) ? most : 0;
  const text = (size / scale).toLocaleString("en", { minimumFractionDigits: least, maximumFractionDigits: most });
  return (value < 0 && Number(text) !== 0 ? MINUS : "") + text + (unit && THIN + unit);
}

/** With three digits however near to zero it is: a divergence of 0.0001 is one. */
export function fine(value) {
  const size = Math.abs(value);
  if (value === null || value === undefined || size === 0 || size >= 0.1) return count(value);
  const text = size < 1e-4 ? size.toExponential(2).replace("-", MINUS) : String(Number(size.toPrecision(3)));
  return (value < 0 ? MINUS : "") + text;
}

export function bytes(value) {
  if (value === null || value === undefined) return NONE;
  if (value < 999.5) return count(value) + THIN + "B";
  const [unit, scale] = value < 999.5e3 ? ["kB", 1e3] : value < 999.5e6 ? ["MB", 1e6] : ["GB", 1e9];
  return count(value / scale) + THIN + unit;
}

export function duration(seconds) {
  if (seconds < 59.5) return seconds.toFixed(seconds < 9.95 ? 1 : 0) + THIN + "s";
  const whole = Math.round(seconds), s = whole % 60, m = Math.floor(whole / 60) % 60, h = Math.floor(whole / 3600);
  const two = (number) => String(number).padStart(2, "0");
  return h ? `${h}${THIN}h ${two(m)}${THIN}m` : `${m}${THIN}m ${two(s)}${THIN}s`;
}

export const clockTime = (date) => date.toLocaleTimeString([], { hourCycle: "h23" });
