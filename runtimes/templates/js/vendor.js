// A simulated vendor, to try the adapter on: the Example Chat API of VENDOR.md over real HTTP, in memory.
//
//   node vendor.js [PORT]
//
// For this machine and for trusted clients only: it limits nothing.
import { createServer } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';

const STEP_MS = 50;
const HEARTBEAT_MS = 5000;
const conversations = new Map();

class Refusal extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

class Conversation {
  entries = [];
  readers = new Set();
  turn = null;

  tell(entry) {
    const told = { id: `ent_${this.entries.length + 1}`, at: new Date().toISOString(), ...entry };
    this.entries.push(told);
    for (const reader of this.readers) reader.write(`event: entry\ndata: ${JSON.stringify(told)}\n\n`);
    return told.id;
  }

  prompt(text) {
    if (this.turn) throw new Refusal(409, 'it answers another prompt');
    const turn = this.tell({ kind: 'prompt', text });
    this.tell({ kind: 'working' });
    this.turn = turn;
    this.work(turn, text);
    return { id: turn };
  }

  end(done) {
    this.turn = null;
    this.tell({ kind: 'done', ...done });
  }

  async work(turn, text) {
    // Nothing is said in a turn that was stopped.
    const say = async (entry) => {
      await sleep(STEP_MS);
      return this.turn === turn ? this.tell(entry) : null;
    };
    if (text === '/long') {
      for (let n = 0; n < 600 && (await say({ kind: 'answer', text: `${n}` })); n += 1);
    } else if (text !== '/fail') {
      const lookup = await say({ kind: 'lookup', query: text });
      await say({ kind: 'found', lookup, text: 'nothing is known of it' });
      await say({ kind: 'answer', text: `You said: ${text}` });
    }
    await sleep(STEP_MS);
    if (this.turn !== turn) return;
    this.end(text === '/fail' ? { reason: 'failed', error: 'the model broke' } : { reason: 'finished' });
  }

  stop() {
    if (!this.turn) throw new Refusal(409, 'there is nothing to stop');
    this.end({ reason: 'stopped' });
    return { stopped: true };
  }

  /** A page of entries, the latest first. */
  page(query) {
    const before = this.entries.findIndex(({ id }) => id === query.get('before'));
    const end = before < 0 ? this.entries.length : before;
    const page = this.entries.slice(Math.max(0, end - Number(query.get('limit') ?? 100)), end);
    return { entries: page.toReversed(), next: page.length < end ? page[0].id : null };
  }

  /** Tells what comes from now on, until the client goes. */
  stream(response) {
    response.writeHead(200, { 'content-type': 'text/event-stream' }).write(': hello\n\n');
    this.readers.add(response);
    const beat = setInterval(() => response.write(': nothing new\n\n'), HEARTBEAT_MS);
    response.on('close', () => {
      clearInterval(beat);
      this.readers.delete(response);
    });
  }
}

async function bodyOf(request) {
  const chunks = [];
  for await (const chunk of request) chunks.push(chunk);
  return JSON.parse(Buffer.concat(chunks).toString() || 'null');
}

/** Status and body, or nothing where the answer is a stream. */
async function answer(request, response) {
  const body = await bodyOf(request);
  const key = /^Bearer (.+)$/.exec(request.headers.authorization ?? '')?.[1];
  if (!key || key === 'wrong') throw new Refusal(401, 'no such key');
  const { pathname, searchParams } = new URL(request.url, 'http://vendor');
  const [, version, noun, id, verb] = pathname.split('/');
  const route = `${request.method} ${[version, noun].join('/')}`;
  if (route === 'GET v1/models') return [200, { models: [{ id: 'example-1', name: 'Example 1' }] }];
  if (noun !== 'conversations') throw new Refusal(404, 'no such path');
  if (!id) {
    const created = `conv_${process.hrtime.bigint().toString(16)}`;
    conversations.set(created, new Conversation());
    return [201, { id: created }];
  }
  const conversation = conversations.get(id);
  if (!conversation) throw new Refusal(404, 'no such conversation');
  switch (`${request.method} ${verb ?? ''}`) {
    case 'GET stream':
      return conversation.stream(response);
    case 'GET entries':
      return [200, conversation.page(searchParams)];
    case 'POST prompts':
      return [202, conversation.prompt(body.text)];
    case 'POST stop':
      return [202, conversation.stop()];
    case 'DELETE ':
      conversations.delete(id);
      return [204];
    default:
      throw new Refusal(405, 'no such method');
  }
}

const server = createServer((request, response) => {
  const refuse = (error) => [error.status ?? 500, { error: { message: error.message } }];
  answer(request, response).catch(refuse).then((answered) => {
    if (!answered) return;
    const [status, body] = answered;
    response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body));
  });
});
server.listen(Number(process.argv[2] ?? 4200), '127.0.0.1', () => {
  console.log(`a simulated vendor at http://127.0.0.1:${server.address().port}`);
});
