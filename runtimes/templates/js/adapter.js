// The runtime example_chat: drives the Example Chat API, which VENDOR.md describes, for a host of lap:runtime@0.1.
//
// Functions of what the host hands them: nothing is kept between two calls, and the only way out is `upstream`. What is
// known of a session is its state, a plain object, which the host stores. lap.js says what is handed in and out.
import { Failure, del, event, failure, get, idle, log, parse, pathSegment, post, refuse, sse, text } from './lap.js';

function path({ conversation }, tail) {
  if (typeof conversation !== 'string') throw new Failure('internal', 'the state is of another version');
  return `/v1/conversations/${conversation}${tail}`;
}

export function describe() {
  return {
    id: 'example_chat',
    name: 'Example Chat',
    defaultBase: 'http://127.0.0.1:4200',
    providerId: 'example',
    providerName: 'Example',
    authHeader: 'authorization',
    authScheme: 'Bearer',
    tools: [],
  };
}

/** This vendor knows conversations only: there is nothing to make that sessions of an agent would share. */
export function provision() {
  return '';
}

export function open(upstream, session) {
  refuse(session, ['resources', 'vault_ids', 'budget']);
  const { title, agent } = session;
  const created = upstream.call(post('/v1/conversations', { title, model: agent.model, instructions: agent.system }));
  const conversation = pathSegment(created.object({ id: 'string' }).id, 'conversation');
  return { state: { conversation }, upstreamId: conversation };
}

/** The stream begins with what happens from now on; what was before is for `catchUp`. */
export function listen(upstream, state) {
  return sse(get(path(state, '/stream'), { headers: { accept: 'text/event-stream' } }));
}

/**
 * What the vendor makes of an input comes on the stream. Its answers are read all the same: a proxy on the way may say 200
 * with a page of its own, and then the prompt has not arrived.
 */
export function send(upstream, state, inputs) {
  for (const { tag, val } of inputs) {
    if (tag === 'message') {
      upstream.call(post(path(state, '/prompts'), { text: text(val) })).object({ id: 'string' });
    } else if (tag === 'interrupt') {
      stop(upstream, state);
    } else {
      throw new Failure('unsupported', 'this runtime takes messages and interrupts only');
    }
  }
}

function stop(upstream, state) {
  try {
    upstream.call(post(path(state, '/stop'), {})).object({ stopped: 'boolean' });
  } catch (error) {
    // The turn was over before it could be stopped.
    if (error.kind !== 'conflict') throw error;
  }
}

export function onFrames(upstream, state, frames) {
  return { events: frames.filter(({ name }) => name === 'entry').flatMap(({ data }) => told(data)) };
}

/** The events of a frame: none for one that is no entry. */
function told(data) {
  try {
    return eventsOf(parse(data));
  } catch (error) {
    log('warn', `an entry is left out: ${error}`);
    return [];
  }
}

/** An entry has the same id wherever it is told, and so have its events: the host stores each once. */
function eventsOf({ id, at, kind, ...entry }) {
  const events = (() => {
    switch (kind) {
      case 'prompt':
        return [event('user.message', id, { content: entry.text })];
      case 'working':
        return [event('session.status_running', id)];
      case 'lookup':
        return [event('agent.tool_use', id, { name: 'lookup', input: { query: entry.query } })];
      case 'found':
        return [event('agent.tool_result', id, { tool_use_id: entry.lookup, content: entry.text })];
      case 'answer':
        return [event('agent.message', id, { content: entry.text })];
      case 'done':
        return entry.reason === 'failed'
          ? [failure(`${id}.error`, entry.error), idle(id, 'retries_exhausted')]
          : [idle(id, 'end_turn')];
      default:
        log('warn', `an entry is left out: there is no kind ${kind}`);
        return [];
    }
  })();
  return events.map((made) => made.at(at));
}

/** A page of entries, in the shape in which the stream brings them. */
export function catchUp(upstream, state, before) {
  const query = before === null ? { limit: '100' } : { limit: '100', before };
  const { entries, next } = upstream.call(get(path(state, '/entries'), { query })).object({ entries: 'array' });
  const frames = entries.map((entry) => ({ name: 'entry', data: JSON.stringify(entry) }));
  return { frames, newestFirst: true, next };
}

export function close(upstream, state) {
  try {
    upstream.call(del(path(state, ''))).noContent();
  } catch (error) {
    if (error.kind !== 'not-found') throw error;
  }
}

export function models(upstream) {
  return upstream.call(get('/v1/models')).object({ models: 'array' }).models;
}
