// What the page asks of its server. Addresses are relative, so that each has the token of the page's own.

const LARGEST_KEPT_ALIVE = 60000; // bytes: browsers send no more for a page that is being closed

export class Refused extends Error {
  constructor(status, body) {
    super(body.error || `the server answered with status ${status}`);
    Object.assign(this, { status, isSuperseded: Boolean(body.superseded) });
  }
}

export const PAGE = Array.from(crypto.getRandomValues(new Uint32Array(4)), (number) => number.toString(36)).join("");

async function ask(path, options = {}) {
  let response;
  try {
    response = await fetch(path, { credentials: "omit", ...options });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refused(0, { error: "the server does not answer; is rloss-caffe draw still running?" });
  }
  if (!response.ok) {
    throw new Refused(response.status, await response.json().catch(() => ({})));
  }
  return response;
}

function sent(method, value, more = {}) {
  const body = JSON.stringify(value);
  const keepalive = body.length < LARGEST_KEPT_ALIVE;
  return { method, body, headers: { "Content-Type": "application/json" }, keepalive, ...more };
}

// JSON with its length before it, and arrays behind it.
async function framed(response) {
  const buffer = await response.arrayBuffer();
  const length = new DataView(buffer).getUint32(0, true);
  const about = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, length)));
  const size = about.width * about.height;
  const values = new Uint8Array(buffer, 4 + length, size);
  const rest = 4 + length + size;
  const more = buffer.byteLength > rest ? new Int8Array(buffer, rest, size) : null;
  return { ...about, values, more };
}

export const folder = async () => (await ask("folder")).json();
export const labels = async (number) => framed(await ask(`labels/${number}`));
export const version = async (number) => (await (await ask(`versions/${number}`)).json()).version;
export const photo = async (number) => createImageBitmap(await (await ask(`photos/${number}`)).blob());
export const save = async (number, patch) => (await ask(`labels/${number}`, sent("PUT", { page: PAGE, ...patch }))).json();
export const preview = async (wish, signal) =>
  framed(await ask("preview", sent("POST", { page: PAGE, ...wish }, { signal, keepalive: false })));
