// The kit: from the contract of wit/ to plain objects and back, so that an adapter has no JSON text, no tags and no
// missing members in it. Nothing here knows a vendor; change it freely.
//
// An adapter is a module of functions, which `exported` makes a component's:
//
//   describe()                           who it is: `description` of wit/types.wit
//   provision(upstream, agent)           a string that leads to what all sessions of an agent share
//   open(upstream, session)              { state, upstreamId?, resources? }
//   listen(upstream, state)              sse(…), lines(…), poll(…), or nothing to read yet
//   send(upstream, state, inputs)        { state?, events?, relisten? }, or nothing
//   onFrames(upstream, state, frames)    the same; frames are { name, data }
//   onEnd(upstream, state, ending)       the same; without it the host connects again
//   catchUp(upstream, state, cursor)     { frames, newestFirst, next? }; without it there is no history
//   close(upstream, state)               nothing
//   models(upstream)                     [{ id, name }]; without it, unsupported
//
// What is JSON text on the border is an object here: the state; `tools` and `config` of an agent; `environment` of a
// session; a message's content and other inputs. Whatever is thrown becomes a declared error, and never a trap: a
// `Failure` as it is, anything else as the adapter's own fault, with its stack in the operator's log.

/** Something that failed, as the contract has it: `kind` is one of `error-kind` of wit/types.wit. */
export class Failure extends Error {
  constructor(kind, message, { retryAfterMs = null, status = null } = {}) {
    super(message);
    Object.assign(this, { kind, retryAfterMs, status });
  }
}

let write = () => {};

/** Writes a line into the operator's log: 'debug', 'info', 'warn' or 'error'. In tests the line is dropped. */
export function log(level, message) {
  write(level, message);
}

// JSON. What is nested deeper than anybody writes would exhaust QuickJS's stack, which is a trap.

const DEPTH_MAX = 100;
const PERHAPS_TOO_DEEP = new RegExp(`^[^[{]*(?:[[{][^[{]*){${DEPTH_MAX + 1}}`);

/** Text as a value; throws when it is no JSON, or nested too deep. */
export function parse(text) {
  if (PERHAPS_TOO_DEEP.test(text)) {
    let depth = 0;
    for (const [token] of text.matchAll(/"(?:[^"\\]|\\.)*"|[[{}\]]/gs)) {
      depth += { '[': 1, '{': 1, ']': -1, '}': -1 }[token] ?? 0;
      if (depth > DEPTH_MAX) throw new SyntaxError(`JSON is nested more than ${DEPTH_MAX} deep`);
    }
  }
  return JSON.parse(text);
}

function read(kind, what, text) {
  try {
    return parse(text);
  } catch (error) {
    throw new Failure(kind, `${what}: ${error.message}`);
  }
}

// Requests and answers.

const request = (method, path, { query = {}, headers = {}, body = null } = {}) => ({
  method,
  path,
  query: Object.entries(query),
  headers: Object.entries(headers).map(([name, value]) => ({ name, value })),
  body,
});

export const get = (path, rest) => request('get', path, rest);
export const del = (path, rest) => request('delete', path, rest);

/** Posts a value as JSON. */
export function post(path, value, { headers = {}, ...rest } = {}) {
  const body = JSON.stringify(value);
  return request('post', path, { ...rest, headers: { 'content-type': 'application/json', ...headers }, body });
}

const KINDS = { 401: 'auth', 402: 'quota', 403: 'auth', 404: 'not-found', 405: 'unsupported', 408: 'upstream', 409: 'conflict', 410: 'gone', 429: 'throttled', 501: 'unsupported', 503: 'overloaded', 529: 'overloaded' };

function kindOf(status) {
  return KINDS[status] ?? (status >= 400 && status < 500 ? 'bad-request' : 'upstream');
}

/** The sentence in an error's body, in the forms that servers use. */
function told(body) {
  try {
    let value = parse(body);
    while (value && typeof value === 'object') value = value.error ?? value.message ?? value.detail;
    return typeof value === 'string' ? value : null;
  } catch {
    return null;
  }
}

function answer({ status, headers, body }) {
  const header = (name) => headers.find((header) => header.name === name)?.value;
  const fail = (why) => new Failure('upstream', `the upstream's answer cannot be understood: ${why}`, { status });
  /** The body, whatever it is. */
  const json = () => read('upstream', "the upstream's answer cannot be understood", body);
  /** The body as an object that has these members, each 'string', 'array' or another type. */
  const object = (members) => {
    const value = json();
    for (const [name, type] of Object.entries(members)) {
      const member = value?.[name];
      if ((Array.isArray(member) ? 'array' : typeof member) !== type) throw fail(`there is no ${name} of type ${type}`);
    }
    return value;
  };
  /** For an answer that has nothing to say: anything else than a 204 is not what the upstream answered. */
  const noContent = () => {
    if (status !== 204) throw fail('it should be a 204');
  };
  return { status, headers, body, header, json, object, noContent };
}

/** Where requests go. `send` is the contract's: gives a response, or throws a `send-error`. */
export function upstreamOf(send) {
  const upstream = {
    /** Sends a request; any status is an answer. */
    send(request) {
      try {
        return answer(send(request));
      } catch (error) {
        const { tag, val } = error?.payload ?? error ?? {};
        if (tag === undefined) throw error;
        // What the host refuses to send is this adapter's own fault.
        throw new Failure(tag === 'refused' ? 'internal' : 'upstream', val ?? "the upstream's answer is too large");
      }
    },
    /** Sends a request that is expected to succeed; throws what any other status means. */
    call(request) {
      const got = upstream.send(request);
      const { status } = got;
      if (status >= 200 && status < 300) return got;
      const [ms, seconds] = [got.header('retry-after-ms'), got.header('retry-after')].map(Number);
      const after = Number.isFinite(ms) ? ms : seconds * 1000;
      const retryAfterMs = Number.isFinite(after) && after >= 0 ? Math.min(Math.round(after), 0xffffffff) : null;
      const message = told(got.body) ?? `the upstream answered with status ${status}`;
      throw new Failure(kindOf(status), message.slice(0, 500), { retryAfterMs, status });
    },
  };
  return upstream;
}

/** An upstream for tests: gives the answers that it was told, [status, value], and keeps what it was asked. */
export function script(...answers) {
  const requests = [];
  const send = (request) => {
    requests.push(request);
    if (answers.length === 0) throw { tag: 'refused', val: 'the script has ended' };
    const [status, value] = answers.shift();
    return { status, headers: [], body: JSON.stringify(value) ?? '' };
  };
  return { ...upstreamOf(send), requests };
}

// What to read.

export const sse = (request) => ({ tag: 'sse', val: request });
export const lines = (request) => ({ tag: 'lines', val: request });
export const poll = (request, everyMs) => ({ tag: 'poll', val: { request, everyMs } });

// What clients send and wish.

/** The text of a message; throws for content of other kinds. */
export function text(content) {
  if (!Array.isArray(content)) throw new Failure('bad-request', 'a message is a list of content blocks');
  const other = content.find(({ type }) => type !== 'text');
  if (other) throw new Failure('unsupported', `this runtime takes text, and no ${other.type}: leave it out of the message`);
  return content.map(({ text }) => text).join('\n');
}

/** Refuses wishes that this runtime cannot fulfil: names of members of a session's environment. */
export function refuse(session, wishes) {
  const wish = wishes.find((wish) => wish in session.environment);
  if (wish) throw new Failure('unsupported', `a session of this runtime has no ${wish}: leave it out`);
}

/** An id of the upstream's that is going to be a segment of paths, and must not lead elsewhere. */
export function pathSegment(id, what) {
  if (typeof id === 'string' && /^[A-Za-z0-9_-]+$/.test(id)) return id;
  throw new Failure('upstream', `the upstream's id of the ${what} cannot be part of a path`);
}

// Events.

const EFFECTS = {
  'session.status_running': 'started',
  'session.status_rescheduled': 'rescheduled',
  'session.status_terminated': 'terminated',
  'session.error': 'failed',
};
const DEFAULTS = {
  'agent.tool_use': { evaluated_permission: 'allow' },
  'agent.mcp_tool_use': { evaluated_permission: 'allow' },
  'agent.tool_result': { is_error: false },
  'agent.mcp_tool_result': { is_error: false },
  'span.model_request_end': { is_error: false },
};

function made(json, effect) {
  return { json, effect, at: (time) => made({ ...json, processed_at: time }, effect) };
}

/**
 * An event of the platform, with its effect on the turn. The id is the upstream's own, or made of it, so that what is
 * told twice has the same; null leaves it to the host. Content may be text.
 */
export function event(type, id, members = {}) {
  if (id !== null && typeof id !== 'string') throw new TypeError(`the id of an event is text, and not ${id}`);
  const { content } = members;
  const blocks = typeof content === 'string' ? { content: [{ type: 'text', text: content }] } : {};
  return made({ type, ...(id === null ? {} : { id }), ...DEFAULTS[type], ...members, ...blocks }, EFFECTS[type] ?? 'none');
}

const STOPS = { end_turn: 'ended', requires_action: 'waiting', retries_exhausted: 'failed' };

/** The turn is over ('end_turn', 'retries_exhausted'), or waits for answers to events ('requires_action'). */
export function idle(id, reason, eventIds) {
  const stop_reason = eventIds ? { type: reason, event_ids: eventIds } : { type: reason };
  return made({ ...event('session.status_idle', id).json, stop_reason, stop_details: null }, STOPS[reason]);
}

/** The turn dies of an error. */
export function failure(id, message, type = 'model_request_failed_error') {
  const error = { type, message: message ?? 'the vendor gives no reason', retry_status: { type: 'exhausted' } };
  return event('session.error', id, { error });
}

/** The data of a frame of this call, by its index, unchanged: for an upstream whose events are the platform's. */
export const frame = (index, effect) => ({ index, effect });

// The component.

function outcomeOf(outcome) {
  const { state = null, events = [], relisten = false } = outcome ?? {};
  const body = ({ index, json }) => (json ? { tag: 'json', val: JSON.stringify(json) } : { tag: 'frame', val: index });
  return {
    state: state === null ? null : JSON.stringify(state),
    events: events.map((event) => ({ body: body(event), effect: event.effect })),
    relisten,
  };
}

/** UTF-8 whose bytes are the characters of a string. QuickJS has no TextDecoder, and these two it has in C. */
const utf8 = (bytes) => (/[\x80-\xff]/.test(bytes) ? decodeURIComponent(escape(bytes)) : bytes);

function framesOf({ bytes, ends }) {
  let text = '';
  for (let at = 0; at < bytes.length; at += 8192) text += String.fromCharCode.apply(null, bytes.subarray(at, at + 8192));
  const frames = [];
  for (let at = 0, from = 0; at + 1 < ends.length; at += 2) {
    frames.push({ name: utf8(text.slice(from, ends[at])), data: utf8(text.slice(ends[at], ends[at + 1])) });
    from = ends[at + 1];
  }
  return frames;
}

const stateOf = (state) => read('internal', 'the state', state);

function agentOf(agent) {
  const tools = read('bad-request', "the agent's tools", agent.tools ?? 'null');
  return { ...agent, tools, config: read('bad-request', "the agent's configuration", agent.config) };
}

function sessionOf(session) {
  const environment = read('bad-request', "the session's environment", session.environment);
  return { ...session, agent: agentOf(session.agent), environment };
}

function inputOf({ tag, val }) {
  return { tag, val: tag === 'interrupt' ? null : read('bad-request', `the ${tag === 'message' ? tag : 'input'}`, val) };
}

/** What went wrong, as the record that the contract declares. */
function declared(error) {
  if (error instanceof Failure) {
    const { kind, message, retryAfterMs, status } = error;
    return { kind, message, retryAfterMs, status };
  }
  log('error', `${error}\n${error?.stack ?? ''}`);
  return { kind: 'internal', message: `the runtime failed: ${error?.message ?? error}`, retryAfterMs: null, status: null };
}

/** An adapter as a component exports it, over what the host gives: `send` and `write`. */
export function exported(adapter, host) {
  write = host.write;
  const upstream = upstreamOf(host.send);
  const guarded = (call) => (...values) => {
    try {
      return call(...values);
    } catch (error) {
      throw declared(error);
    }
  };
  const again = () => ({ relisten: true });
  const nothing = () => ({ frames: [], newestFirst: false });
  const unlisted = () => {
    throw new Failure('unsupported', 'this runtime cannot list models');
  };
  const { onEnd = again, catchUp = nothing, models = unlisted } = adapter;
  return {
    describe: () => adapter.describe(),
    provision: guarded((agent) => adapter.provision(upstream, agentOf(agent))),
    open: guarded((session) => {
      const { state, upstreamId = null, resources = null } = adapter.open(upstream, sessionOf(session));
      return { state: JSON.stringify(state), upstreamId, resources: resources && JSON.stringify(resources) };
    }),
    listen: guarded((state) => adapter.listen(upstream, stateOf(state)) ?? { tag: 'none' }),
    send: guarded((state, inputs) => outcomeOf(adapter.send(upstream, stateOf(state), inputs.map(inputOf)))),
    onFrames: guarded((state, frames) => outcomeOf(adapter.onFrames(upstream, stateOf(state), framesOf(frames)))),
    onEnd: guarded((state, ending) => outcomeOf(onEnd(upstream, stateOf(state), ending))),
    catchUp: guarded((state, cursor) => {
      const { frames, newestFirst, next = null } = catchUp(upstream, stateOf(state), cursor ?? null);
      return { frames, newestFirst, next };
    }),
    close: guarded((state) => {
      adapter.close(upstream, stateOf(state));
    }),
    models: guarded(() => models(upstream)),
  };
}
