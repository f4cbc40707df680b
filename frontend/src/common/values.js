// Numbers: the range of many, and how one is written.

// How much of the values, at both ends, a range leaves out: [name in the address, text, percent].
export const RANGES = [
  ["98", "2 to 98 %", 2],
  ["99.5", "0.5 to 99.5 %", 0.5],
  ["all", "all values", 0],
];

// Returns the value below which `percent` of sorted values lie.
export function percentile(sorted, percent) {
  if (sorted.length === 0) {
    return NaN;
  }
  const place = (percent / 100) * (sorted.length - 1);
  const below = Math.floor(place);
  const above = Math.min(below + 1, sorted.length - 1);
  return sorted[below] + (place - below) * (sorted[above] - sorted[below]);
}

// Returns the range of the values that are no NaN, without `percent` of them at both ends; of many values, every so many.
export function findRange(values, percent, isMissing = Number.isNaN) {
  const every = Math.max(1, Math.floor(values.length / 400_000));
  let kept = new Float64Array(Math.ceil(values.length / every));
  let count = 0;
  let low = Infinity;
  let high = -Infinity;
  for (let index = 0; index < values.length; index += 1) {
    const value = values[index];
    if (Number.isFinite(value) && !isMissing(value)) {
      low = Math.min(low, value);
      high = Math.max(high, value);
      if (index % every === 0) {
        kept[count] = value;
        count += 1;
      }
    }
  }
  if (low > high) {
    return [0, 1];
  }
  if (percent > 0 && count > 0) {
    kept = kept.subarray(0, count).sort();
    [low, high] = [percentile(kept, percent), percentile(kept, 100 - percent)];
  }
  return low === high ? [low, low + (Math.abs(low) || 1) * 1e-6] : [low, high];
}

// Returns what gives the place, from 0 to 255, of a value in a range; what lies outside is at its ends.
export function makeGrade([low, high]) {
  const factor = 256 / (high - low || 1);
  return (value) => Math.max(0, Math.min(255, Math.floor((value - low) * factor)));
}

// Returns a number as people read it: one of 32 bits exactly, another to 12 digits.
export function formatNumber(value) {
  if (typeof value !== "number" || Number.isInteger(value)) {
    return String(value);
  }
  return String(Math.fround(value) === value ? shortest(value) : Number(value.toPrecision(12)));
}

// Returns a number of 32 bits as the shortest decimal that means it.
export function shortest(value) {
  for (let digits = 6; digits < 9; digits += 1) {
    const rounded = Number(value.toPrecision(digits));
    if (Math.fround(rounded) === value) {
      return rounded;
    }
  }
  return value;
}
