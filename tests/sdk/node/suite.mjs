// The same for the official TypeScript SDK: what its users do, with the values that matter.
//
//     ANTHROPIC_BASE_URL=… ANTHROPIC_API_KEY=… node suite.mjs PACKAGE
//
// PACKAGE is the name under which the SDK is installed. Ends with a status other than 0 and a line for each case that
// fails.

import assert from 'node:assert/strict';

const { default: Anthropic } = await import(process.argv[2]);
const { VERSION } = await import(`${process.argv[2]}/version`);

// What differs from runtime to runtime: the tool that needs leave, and what a refused one comes to.
const HERE = {
  claude_managed_agents: { asks: 'agent.tool_use', denied: [true] },
  openai_responses: { asks: 'agent.mcp_tool_use', denied: [] },
}[process.env.SUITE_RUNTIME ?? 'claude_managed_agents'];
const PROMPT = 'Bonjour, ça va? 你好';
const TURN = [
  'session.status_running', 'span.model_request_start', 'agent.message', 'agent.tool_use', 'agent.tool_result',
  'agent.message', 'span.model_request_end', 'session.status_idle',
];

const client = new Anthropic({ maxRetries: 0, timeout: 30_000 });
const { agents, environments, sessions } = client.beta;
const agent = await agents.create({ name: 'Tester', model: 'claude-opus-5-5', tools: [{ type: 'agent_toolset_20260401' }] });
const environment = await environments.create({ name: 'Somewhere' });

const open = (wishes = {}) => sessions.create({ agent: agent.id, environment_id: environment.id, ...wishes });
const message = (text) => ({ type: 'user.message', content: [{ type: 'text', text }] });
const send = (session, ...events) => sessions.events.send(session.id, { events });
const text = (event) => event.content.map((block) => block.text).join('');

async function all(page) {
  const found = [];
  for await (const one of page) found.push(one);
  return found;
}

/** A stream that is read piece by piece. */
async function listen(session) {
  const stream = await sessions.events.stream(session.id);
  return { events: stream[Symbol.asyncIterator](), close: () => stream.controller.abort() };
}

async function toIdle(stream, onEvent = async () => {}) {
  const events = [];
  for (;;) {
    const { value, done } = await stream.events.next();
    assert(!done, `the stream ended without idle after ${events.map((event) => event.type)}`);
    events.push(value);
    await onEvent(value);
    if (value.type === 'session.status_idle') return events;
  }
}

const refused = (status, call) =>
  call().then(
    (answer) => assert.fail(`expected ${status}, got ${JSON.stringify(answer)}`),
    (error) => {
      assert.equal(error.status, status, error.message);
      return error;
    },
  );

const cases = {
  async mainFlow() {
    const session = await open({ title: 'Main flow', metadata: { case: 'main' } });
    assert.deepEqual([session.status, session.title, session.agent.id], ['idle', 'Main flow', agent.id]);
    const stream = await listen(session);
    for (const prompt of [PROMPT, 'again']) {
      const sent = await send(session, message(prompt));
      assert.deepEqual(sent.data.map(text), [prompt]);
      const events = await toIdle(stream);
      assert.deepEqual(events.map((event) => event.type).filter((type) => type !== 'user.message'), TURN);
      assert.equal(events.at(-1).stop_reason.type, 'end_turn');
    }
    stream.close();
    const listed = await all(sessions.events.list(session.id));
    assert.equal(new Set(listed.map((event) => event.id)).size, listed.length);
    assert.equal(listed.filter((event) => event.type === 'session.status_idle').length, 2);
  },

  async customTool() {
    const session = await open();
    const stream = await listen(session);
    await send(session, message('/custom please'));
    const events = await toIdle(stream);
    const use = events.find((event) => event.type === 'agent.custom_tool_use');
    assert.deepEqual(events.at(-1).stop_reason, { type: 'requires_action', event_ids: [use.id] });
    await send(session, {
      type: 'user.custom_tool_result', custom_tool_use_id: use.id, content: [{ type: 'text', text: '12 degrees' }],
    });
    const rest = await toIdle(stream);
    stream.close();
    assert.equal(text(rest.find((event) => event.type === 'agent.message')), '12 degrees');
  },

  async toolRunner() {
    const session = await open();
    const tool = {
      type: 'custom', name: 'get_weather', description: 'Tells the weather.',
      input_schema: { type: 'object', properties: { city: { type: 'string' } } },
      parse: (input) => input,
      run: async ({ city }) => `fine in ${city}`,
    };
    const runner = sessions.events.toolRunner(session.id, { tools: [tool], maxIdleMs: 200 });
    await send(session, message('/custom please'));
    const calls = [];
    for await (const call of runner) calls.push(call.name);
    assert.deepEqual(calls, ['get_weather']);
    const said = (await all(sessions.events.list(session.id, { types: ['agent.message'] }))).map(text);
    assert.equal(said.at(-1), 'fine in Kyiv');
  },

  async confirmation() {
    const session = await open();
    const stream = await listen(session);
    await send(session, message('/ask me'));
    const [use] = (await toIdle(stream)).filter((event) => event.type === HERE.asks);
    assert.equal(use.evaluated_permission, 'ask');
    await send(session, { type: 'user.tool_confirmation', tool_use_id: use.id, result: 'deny', deny_message: 'no' });
    const results = (await toIdle(stream)).filter((event) => /tool_result$/.test(event.type) && event.type.startsWith('agent.'));
    stream.close();
    assert.deepEqual(results.map((event) => event.is_error), HERE.denied);
  },

  async interrupt() {
    const session = await open();
    const stream = await listen(session);
    await send(session, message('/long turn'));
    let sent = false;
    const events = await toIdle(stream, async (event) => {
      if (event.type !== 'agent.message' || sent) return;
      sent = true;
      await refused(400, () => sessions.archive(session.id));
      await refused(400, () => sessions.delete(session.id));
      await send(session, { type: 'user.interrupt' });
    });
    stream.close();
    assert.equal(events.at(-1).stop_reason.type, 'end_turn');
  },

  async paging() {
    const session = await open();
    const stream = await listen(session);
    await send(session, message('/pages'));
    const streamed = (await toIdle(stream)).filter((event) => event.processed_at).map((event) => event.id);
    stream.close();
    assert(streamed.length > 1000);
    const ids = async (query) => (await all(sessions.events.list(session.id, query))).map((event) => event.id);
    assert.deepEqual(await ids({}), streamed);
    assert.deepEqual(await ids({ order: 'desc', limit: 300 }), [...streamed].reverse());
  },

  async agents() {
    const made = await agents.create({ name: 'Versioned', model: { id: 'claude-opus-5-5' }, system: 'one', metadata: { a: '1' } });
    const changed = await agents.update(made.id, { version: 1, system: 'two', metadata: { a: null } });
    assert.deepEqual([changed.version, changed.system, changed.metadata], [2, 'two', {}]);
    await refused(409, () => agents.update(made.id, { version: 1, system: 'late' }));
    assert.deepEqual((await all(agents.versions.list(made.id))).map((one) => one.version), [2, 1]);
    assert.equal((await agents.retrieve(made.id, { version: 1 })).system, 'one');
    assert((await agents.archive(made.id)).archived_at);
    await refused(400, () => open({ agent: made.id }));
  },

  async environments() {
    const made = await environments.create({ name: 'Mine', config: { type: 'cloud', packages: { npm: ['left-pad'] } } });
    assert.deepEqual(made.config.packages.npm, ['left-pad']);
    assert.equal((await environments.update(made.id, { name: 'Ours' })).name, 'Ours');
    assert((await environments.archive(made.id)).archived_at);
    assert.deepEqual(await environments.delete(made.id), { id: made.id, type: 'environment_deleted' });
    await refused(404, () => environments.retrieve(made.id));
  },

  async sessions() {
    const own = await agents.create({ name: 'Own', model: 'claude-opus-5-5' });
    const made = [];
    for (let number = 0; number < 3; number += 1) made.unshift((await open({ agent: own.id })).id);
    const found = await all(sessions.list({ agent_id: own.id, limit: 1 }));
    assert.deepEqual(found.map((one) => one.id), made);
    const updated = await sessions.update(made[0], { title: 'Named', metadata: { x: '1' } });
    assert.deepEqual([updated.title, updated.metadata], ['Named', { x: '1' }]);
    assert((await sessions.archive(made[0])).archived_at);
    const stream = await sessions.events.stream(made[1]);
    await sessions.delete(made[1]);
    assert.deepEqual((await all(stream)).map((event) => event.type), ['session.deleted']);
    await refused(404, () => sessions.retrieve(made[1]));
  },

  async errors() {
    const stranger = new Anthropic({ apiKey: 'sk-wrong', maxRetries: 0 });
    assert.equal((await refused(401, () => stranger.beta.agents.list())).error.error.type, 'authentication_error');
    const error = await refused(404, () => sessions.retrieve('sesn_none'));
    assert.equal(error.requestID, error.error.request_id);
  },
};

const ended = await Promise.allSettled(Object.values(cases).map((run) => run()));
const failed = Object.keys(cases).filter((name, place) => {
  const { reason } = ended[place];
  if (reason) console.log(`${name}: ${reason.stack.split('\n').slice(0, 6).join(' | ')}`);
  return reason;
});
console.log(`@anthropic-ai/sdk ${VERSION}: ${ended.length - failed.length} of ${ended.length} cases as expected`);
process.exit(failed.length ? 1 : 0);
