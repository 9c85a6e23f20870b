// Who uses the page, and the requests it sends. The access token is in memory only; the refresh token is in a cookie
// that no script can read.

let session = null; // the service's answer: { login, access_token, client_id, role, may_post, assets }
let renewAt = 0;
let offsetMs = 0; // how far this machine's clock is behind the service's
const listeners = new Set();

// The failures of the service that say that nothing was written. After any other one, even an internal error, it may have been.
const WROTE_NOTHING = new Set(["not_owner", "overloaded", "log_unavailable", "shutting_down"]);
// Refusals before the service looks whether it had the same command already.
const NOT_EXAMINED = new Set([401, 403, 408, 429]);

/** A response that is a problem (RFC 9457). */
export class Problem extends Error {
  constructor(status, body) {
    super(body.detail || body.title || `status ${status}`);
    this.status = status;
    this.code = body.code ?? "";
    this.title = body.title ?? `Status ${status}`;
    this.fields = body;
  }

  /** Whether the service may have done what it was asked for. */
  get outcomeUnknown() {
    return this.status >= 500 && !WROTE_NOTHING.has(this.code);
  }

  /** The same, if an earlier attempt may have done it. */
  get stillUnknown() {
    return this.status >= 500 || NOT_EXAMINED.has(this.status);
  }
}

/** The connection broke before the response arrived: what was asked for may have been done. */
export class Lost extends Error {
  constructor() {
    super("The service did not respond. It may have done what it was asked for.");
    this.outcomeUnknown = this.stillUnknown = true;
  }
}

export const current = () => session;
/** The service's time, in microseconds. */
export const nowUs = () => Math.round((Date.now() + offsetMs) * 1000);
export const mayPost = (type) => session.may_post.includes(type);
export const isRole = (...roles) => session.role === null || roles.includes(session.role);

/** Calls `listener` after each change of the session. Returns what ends this. */
export function onSession(listener) {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

// Exact integers only: one that a number cannot hold becomes a BigInt.
export function parseJson(text) {
  return JSON.parse(text, (_key, value, context) =>
    typeof value === "number" && Number.isInteger(value) && !Number.isSafeInteger(value) && context?.source
      ? BigInt(context.source)
      : value,
  );
}

async function exchange(method, path, body, headers = {}) {
  let response, text;
  try {
    response = await fetch(path, {
      method,
      headers: body === undefined ? headers : { "Content-Type": "application/json", ...headers },
      body: body === undefined ? undefined : JSON.stringify(body),
      cache: "no-store",
    });
    text = await response.text();
  } catch {
    throw new Lost();
  }
  const json = (response.headers.get("content-type") ?? "").includes("json");
  let found = text;
  try {
    if (json && !path.startsWith("/v1/events")) found = parseJson(text);
  } catch {
    throw new Lost();
  }
  if (!response.ok) {
    if (json && typeof found === "string") found = parseJson(found);
    throw new Problem(response.status, json ? found : { detail: `the response has status ${response.status}` });
  }
  return found;
}

function ask(path, body) {
  return exchange("POST", `/admin/session${path}`, body, { "Stakelog-Page": "1" });
}

function accept(found) {
  session = found;
  if (found.time_us) offsetMs = found.time_us / 1000 - Date.now();
  renewAt = found.expires_in === null ? 0 : Date.now() + (found.expires_in - 60) * 1000;
  for (const listener of listeners) listener();
}

// Two tabs must not spend one refresh token at the same time: that would end the login of both.
function alone(work) {
  return navigator.locks ? navigator.locks.request("stakelog-session", work) : work();
}

let renewing = null;

/** Asks for the next access token, once for all requests that wait for it. */
export function renew() {
  renewing ??= alone(async () => accept(await ask("/refresh"))).finally(() => (renewing = null));
  return renewing;
}

export async function logIn(client_id, client_secret) {
  const found = await ask("", { client_id, client_secret });
  accept(found);
}

export async function logOut() {
  await alone(() => ask("/logout"));
  accept({ ...session, time_us: null, access_token: null, client_id: null, role: null, may_post: [] });
}

/** The access token, renewed if it ends soon. Null: login is off. */
export async function token() {
  if (session.login && session.access_token !== null && Date.now() > renewAt) await renew();
  return session.access_token;
}

/**
 * Sends a request, and returns the decoded body: JSON, else text. Throws Problem or Lost. A request whose token was
 * refused is sent once more with a new one; such a request changed nothing.
 */
export async function send(method, path, body) {
  const once = async () => {
    const access = await token();
    return exchange(method, path, body, access === null ? {} : { Authorization: `Bearer ${access}` });
  };
  try {
    return await once();
  } catch (error) {
    if (!(error instanceof Problem && error.status === 401 && session.login)) throw error;
  }
  await renew();
  if (session.access_token === null) throw new Problem(401, { detail: "Log in again." });
  return once();
}

export const read = (path) => send("GET", path);
