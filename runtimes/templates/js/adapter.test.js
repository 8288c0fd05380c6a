import assert from 'node:assert/strict';
import test from 'node:test';

import * as chat from './adapter.js';
import { exported, parse, script, upstreamOf } from './lap.js';

const STATE = { conversation: 'conv_1' };
const AT = '2026-11-25T10:00:00Z';
const agent = { id: 'agent_1', name: 'Ada', model: 'example-1', system: 'Be brief.', tools: null, config: {} };
const session = (environment) => ({ id: 'ses_1', title: 'Numbers', agent, provision: '', environment });
const asked = (upstream) => upstream.requests.map(({ method, path, body }) => [method, path, body && JSON.parse(body)]);
const message = { tag: 'message', val: [{ type: 'text', text: 'Hi' }] };

test('a session is a conversation', () => {
  const upstream = script([201, { id: 'conv_1' }]);
  assert.deepEqual(chat.open(upstream, session({})), { state: STATE, upstreamId: 'conv_1' });
  const body = { title: 'Numbers', model: 'example-1', instructions: 'Be brief.' };
  assert.deepEqual(asked(upstream), [['post', '/v1/conversations', body]]);
});

test('a wish that this vendor cannot fulfil is refused before anything is sent', () => {
  const upstream = script();
  assert.throws(() => chat.open(upstream, session({ budget: {} })), { kind: 'unsupported' });
  assert.deepEqual(upstream.requests, []);
});

test('an id that would lead elsewhere is refused', () => {
  for (const id of ['', '../a', 'a?b', 7]) {
    assert.throws(() => chat.open(script([201, { id }]), session({})), { kind: 'upstream' });
  }
});

test("the feed is the conversation's stream", () => {
  const { tag, val } = chat.listen(script(), STATE);
  assert.deepEqual([tag, val.path], ['sse', '/v1/conversations/conv_1/stream']);
});

test('inputs go out in their order', () => {
  const upstream = script([202, { stopped: true }], [202, { id: 'ent_1' }]);
  chat.send(upstream, STATE, [{ tag: 'interrupt', val: null }, message]);
  assert.deepEqual(asked(upstream), [
    ['post', '/v1/conversations/conv_1/stop', {}],
    ['post', '/v1/conversations/conv_1/prompts', { text: 'Hi' }],
  ]);
});

test('stopping what is over is no error, and prompting what runs is', () => {
  const refusal = { error: { message: 'no' } };
  chat.send(script([409, refusal]), STATE, [{ tag: 'interrupt', val: null }]);
  assert.throws(() => chat.send(script([500, refusal]), STATE, [{ tag: 'interrupt', val: null }]), { kind: 'upstream' });
  assert.throws(() => chat.send(script([409, refusal]), STATE, [message]), { kind: 'conflict', message: 'no', status: 409 });
  assert.throws(() => chat.send(script(), STATE, [{ tag: 'other', val: { type: 'system.message' } }]), { kind: 'unsupported' });
});

test('each entry is an event with its effect', () => {
  for (const [entry, expected] of [
    [{ kind: 'prompt', text: 'Hi' }, [['user.message', 'ent_7', 'none']]],
    [{ kind: 'working' }, [['session.status_running', 'ent_7', 'started']]],
    [{ kind: 'lookup', query: 'Hi' }, [['agent.tool_use', 'ent_7', 'none']]],
    [{ kind: 'found', lookup: 'ent_6', text: 'a' }, [['agent.tool_result', 'ent_7', 'none']]],
    [{ kind: 'answer', text: 'Hello' }, [['agent.message', 'ent_7', 'none']]],
    [{ kind: 'done', reason: 'finished' }, [['session.status_idle', 'ent_7', 'ended']]],
    [{ kind: 'done', reason: 'stopped' }, [['session.status_idle', 'ent_7', 'ended']]],
    [{ kind: 'done', reason: 'failed', error: 'no' }, [['session.error', 'ent_7.error', 'failed'], ['session.status_idle', 'ent_7', 'failed']]],
    [{ kind: 'of_next_year' }, []],
    [{ id: 7, kind: 'answer', text: 'Hello' }, []],
  ]) {
    const data = JSON.stringify({ id: 'ent_7', at: AT, ...entry });
    const { events } = chat.onFrames(script(), STATE, [{ name: 'ping', data: '' }, { name: 'entry', data }]);
    assert.deepEqual(events.map(({ json, effect }) => [json.type, json.id, effect]), expected);
    assert.ok(events.every(({ json }) => json.processed_at === AT));
  }
});

test('a page has the shape of the stream', () => {
  const entry = { id: 'ent_7', at: AT, kind: 'working' };
  const page = chat.catchUp(script([200, { entries: [entry], next: 'ent_7' }]), STATE, null);
  assert.deepEqual(page, { frames: [{ name: 'entry', data: JSON.stringify(entry) }], newestFirst: true, next: 'ent_7' });
});

test("a success that is no answer is the upstream's fault", () => {
  for (const body of ['<html>', '', '{"id":"ent', '{}', 'null', '[]']) {
    const upstream = () => upstreamOf(() => ({ status: 200, headers: [], body }));
    assert.throws(() => chat.send(upstream(), STATE, [message]), { kind: 'upstream' });
    assert.throws(() => chat.send(upstream(), STATE, [{ tag: 'interrupt', val: null }]), { kind: 'upstream' });
    assert.throws(() => chat.open(upstream(), session({})), { kind: 'upstream' });
    assert.throws(() => chat.catchUp(upstream(), STATE, null), { kind: 'upstream' });
    assert.throws(() => chat.models(upstream()), { kind: 'upstream' });
    assert.throws(() => chat.close(upstream(), STATE), { kind: 'upstream', status: 200 });
  }
});

test('a conversation that is gone is closed', () => {
  for (const status of [204, 404]) chat.close(script([status]), STATE);
  assert.throws(() => chat.close(script([500]), STATE), { kind: 'upstream' });
});

test('what is nested too deep is refused, and what only has many brackets is not', () => {
  assert.throws(() => parse('['.repeat(100_000)), SyntaxError);
  assert.throws(() => parse('{"a":'.repeat(101) + '1' + '}'.repeat(101)), SyntaxError);
  assert.equal(parse('['.repeat(100) + ']'.repeat(100)).length, 1);
  assert.equal(parse(JSON.stringify([...Array(200).keys()].map((n) => ({ n, text: '[[{"\\' })))).length, 200);
});

test('across the border everything is text, and whatever is thrown is a declared error', () => {
  const written = [];
  const broken = { ...chat, close: () => undefined.conversation };
  const send = () => ({ status: 429, headers: [{ name: 'retry-after', value: '3' }], body: '{"error":{"message":"slow"}}' });
  const adapter = exported(broken, { send, write: (...line) => written.push(line) });
  const data = new TextEncoder().encode(`entry{"id":"ü","at":"${AT}","kind":"answer","text":"ä"}`);
  const outcome = adapter.onFrames('{"conversation":"conv_1"}', { bytes: data, ends: [5, data.length] });
  const json = JSON.parse(outcome.events[0].body.val);
  assert.deepEqual([json.id, json.content, outcome.state], ['ü', [{ type: 'text', text: 'ä' }], null]);
  const slow = { kind: 'throttled', message: 'slow', retryAfterMs: 3000, status: 429 };
  assert.throws(() => adapter.send('{"conversation":"conv_1"}', [{ tag: 'message', val: '[]' }]), (error) => {
    assert.deepEqual(error, slow);
    return true;
  });
  assert.throws(() => adapter.send('{}', [{ tag: 'message', val: '[{' }]), { kind: 'bad-request' });
  assert.throws(() => adapter.listen('{"con'), { kind: 'internal' });
  assert.throws(() => adapter.close('{}'), { kind: 'internal' });
  assert.equal(written.length, 1);
});
