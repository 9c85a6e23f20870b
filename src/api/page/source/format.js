// Numbers, money and times as text. Money is exact: integers in minor units, moved by text, never by division.
import { current } from "./session.js";

const grouped = new Intl.NumberFormat("en-US", { maximumFractionDigits: 0 });
const when = new Intl.DateTimeFormat("en-GB", { dateStyle: "short", timeStyle: "medium", timeZone: "UTC" });
const clock = new Intl.DateTimeFormat("en-GB", { timeStyle: "medium", timeZone: "UTC" });

export const count = (number) => grouped.format(number);

/** An amount in minor units (a number or a BigInt) in the asset's own unit: 12345 of INR is "123.45". */
export function money(minor, asset) {
  if (minor === null || minor === undefined) return "—";
  const exponent = current().assets[asset] ?? 0;
  const whole = BigInt(minor);
  const digits = (whole < 0n ? -whole : whole).toString().padStart(exponent + 1, "0");
  const units = grouped.format(BigInt(digits.slice(0, digits.length - exponent)));
  return `${whole < 0n ? "−" : ""}${units}${exponent ? `.${digits.slice(-exponent)}` : ""}`;
}

/**
 * The opposite: minor units, or null if the text is not an amount of the asset. A comma is allowed only before groups of
 * three digits: somebody who types "12,50" means 12.50, and must not get 1250.
 */
export function parseMoney(text, asset) {
  const exponent = current().assets[asset] ?? 0;
  const found = /^\s*([-−+]?)(\d{1,3}(?:,\d{3})+|\d+)(?:\.(\d+))?\s*$/.exec(text);
  if (!found || (found[3] ?? "").length > exponent) return null;
  const minor = Number(found[2].replaceAll(",", "") + (found[3] ?? "").padEnd(exponent, "0"));
  if (!Number.isSafeInteger(minor)) return null;
  return found[1] === "-" || found[1] === "−" ? -minor : minor;
}

export const time = (us) => (us === null || us === undefined ? "—" : `${when.format(Number(us) / 1000)} UTC`);
export const timeOfDay = (us) => clock.format(us / 1000);
export const ppm = (value) => (value === null || value === undefined ? "—" : `${(Number(value) / 10_000).toFixed(2)} %`);
export const short = (hash) => (hash ? `${hash.slice(0, 10)}…` : "—");

const compact = new Intl.NumberFormat("en-US", { notation: "compact", maximumFractionDigits: 2 });

/** The same for an axis, which is narrow: 2M. */
export const tick = (value) => (value === null ? "" : compact.format(value));

/** A number of a plot: short, and with its unit. */
export function figure(value, unit = "") {
  if (value === null || value === undefined || Number.isNaN(value)) return "—";
  const size = Math.abs(value);
  const digits = size >= 100 || Number.isInteger(value) ? 0 : size >= 10 ? 1 : 2;
  return `${value.toLocaleString("en-US", { minimumFractionDigits: digits, maximumFractionDigits: digits })}${unit && ` ${unit}`}`;
}
