// @ts-check
// Compares a value with a schema tree of the topic's page. Only what is certain is told: it is a hint.

/** @typedef {{name: string, is_role?: boolean, type?: string, required?: boolean, constraints?: string[], enum?: string[], const?: string | null, back?: string, more?: number, children?: Node[]}} Node */

const MOST = 20;
const JSON_TYPES = new Set(["string", "number", "integer", "boolean", "null", "object", "array"]);

/** @param {any} value */
const typeOf = (value) => (value === null ? "null" : Array.isArray(value) ? "array" : typeof value);

/**
 * List what does not fit.
 * @param {Node | null} node
 * @param {any} value
 * @param {string} [where]
 * @param {string[]} [faults]
 * @returns {string[]}
 */
export function check(node, value, where = "", faults = []) {
  if (!node || faults.length >= MOST || node.back) return faults;
  const place = where || "the message";
  const given = typeOf(value);
  const types = (node.type ?? "").split(" or ").map((each) => each.replace(/^array of .*/, "array")).filter(Boolean);
  const known = types.length > 0 && types.every((each) => JSON_TYPES.has(each));
  if (known && !types.some((each) => each === given || (each === "integer" && Number.isInteger(value)))) {
    if (!(value === null && node.constraints?.includes("or null"))) faults.push(`${place} is ${given}, not ${types.join(" or ")}`);
    return faults;
  }
  if (node.enum?.length && !node.more && !node.enum.some((each) => same(each, value))) faults.push(`${place} is none of ${node.enum.slice(0, 5).join(", ")}`);
  if (node.const !== null && node.const !== undefined && !same(node.const, value)) faults.push(`${place} is not ${node.const}`);
  limits(node, value, place, faults);
  const properties = (node.children ?? []).filter((each) => !each.is_role);
  if (given === "object") {
    for (const each of properties) {
      const inside = where ? `${where}.${each.name}` : each.name;
      if (Object.hasOwn(value, each.name)) check(each, value[each.name], inside, faults);
      else if (each.required) faults.push(`${inside} is missing`);
    }
    const open = (node.children ?? []).some((each) => each.name.startsWith("properties like"));
    if (node.constraints?.includes("no other properties") && !open && !node.more) {
      for (const name of Object.keys(value)) if (!properties.some((each) => each.name === name)) faults.push(`${where ? `${where}.` : ""}${name} is not known`);
    }
  }
  for (const each of (node.children ?? []).filter((child) => child.is_role)) {
    if (given === "array" && each.name === "each item") value.slice(0, 100).forEach((/** @type {any} */ one, /** @type {number} */ at) => check(each, one, `${where}[${at}]`, faults));
    else if (each.name.startsWith("all of")) check(each, value, where, faults);
  }
  const choices = (node.children ?? []).filter((each) => each.is_role && /^(one|any) of/.test(each.name));
  if (choices.length && !node.more && choices.every((each) => check(each, value, where).length)) faults.push(`${place} fits none of ${choices.length} choices`);
  return faults;
}

/** @param {string} written @param {any} value */
const same = (written, value) => written === (typeof value === "string" ? value : JSON.stringify(value)) || written === JSON.stringify(value);

/** @param {Node} node @param {any} value @param {string} place @param {string[]} faults */
function limits(node, value, place, faults) {
  for (const rule of node.constraints ?? []) {
    const [, name, text] = /^(\w+):? (.*)$/s.exec(rule) ?? [];
    const limit = Number(text);
    if (!name || Number.isNaN(limit)) continue;
    const size = typeof value === "string" ? [...value].length : Array.isArray(value) ? value.length : 0;
    const wrong =
      (name === "minimum" && value < limit) || (name === "maximum" && value > limit) ||
      (name === "exclusiveMinimum" && value <= limit) || (name === "exclusiveMaximum" && value >= limit) ||
      (typeof value === "string" && ((name === "minLength" && size < limit) || (name === "maxLength" && size > limit))) ||
      (Array.isArray(value) && ((name === "minItems" && size < limit) || (name === "maxItems" && size > limit)));
    if (wrong) faults.push(`${place}: ${rule}`);
  }
}
