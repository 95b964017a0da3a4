// @ts-check
// Requests to the portal's own endpoints. An ended session is renewed in a dialog, and nothing is lost.

import { lost, found } from "./connection.js";
import { logIn } from "./session.js";

/** A refused request, as the gateway describes it. */
export class ApiError extends Error {
  /**
   * @param {number} status
   * @param {{code?: number, message?: string, problems?: any[]}} body
   * @param {Headers} headers
   */
  constructor(status, body, headers) {
    super(body.message || `the gateway answered ${status}`);
    this.status = status;
    this.code = body.code ?? status;
    this.problems = body.problems ?? [];
    this.body = body;
    this.headers = headers;
  }
}

/**
 * Call an endpoint: `request("GET", "/apis?q=x")`. `path` is below /portal/api. `body` is sent as
 * JSON. Returns what the answer holds: JSON, or null. Raises `ApiError`; AbortError if `signal` aborts.
 * @param {string} method
 * @param {string} path
 * @param {any} [body]
 * @param {{signal?: AbortSignal, headers?: Record<string, string>, again?: boolean}} [options]
 * @returns {Promise<any>}
 */
export async function request(method, path, body, options = {}) {
  return (await answer(method, path, body, options)).body;
}

/**
 * As `request`, with status and headers: for those who need the ETag.
 * @param {string} method
 * @param {string} path
 * @param {any} [body]
 * @param {{signal?: AbortSignal, headers?: Record<string, string>, again?: boolean}} [options]
 * @returns {Promise<{status: number, headers: Headers, body: any}>}
 */
export async function answer(method, path, body, options = {}) {
  /** @type {Record<string, string>} */
  const headers = { Accept: "application/json", "X-Trio-GW": "1", ...options.headers };
  /** @type {RequestInit} */
  const init = { method, headers, signal: options.signal, credentials: "same-origin", redirect: "error" };
  if (body !== undefined) {
    headers["Content-Type"] ??= "application/json";
    init.body = JSON.stringify(body);
  }
  /** @type {Response} */
  let response;
  try {
    response = await fetch(`/portal/api${path}`, init);
  } catch (error) {
    if (!options.signal?.aborted) lost();
    throw error;
  }
  found();
  const json = response.headers.get("content-type")?.startsWith("application/json");
  const parsed = json ? await response.json().catch(() => null) : null;
  if (response.ok) return { status: response.status, headers: response.headers, body: parsed };
  if (response.status === 401 && options.again !== false && (await logIn())) {
    return answer(method, path, body, { ...options, again: false });
  }
  throw new ApiError(response.status, parsed ?? {}, response.headers);
}

/**
 * Write a query string, without empty values.
 * @param {Record<string, string | number | null | undefined>} values
 */
export function query(values) {
  const given = Object.entries(values).filter(([, value]) => value !== "" && value !== null && value !== undefined);
  const written = new URLSearchParams(given.map(([name, value]) => [name, String(value)])).toString();
  return written && `?${written}`;
}
