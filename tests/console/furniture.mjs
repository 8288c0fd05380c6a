// A host that a team has used for a while: what the checks of accessibility and the pictures of the documentation look at.
import { RUNTIME, api, connected, newAgent, newSession, session, settled, until } from './world.mjs';

const AGENTS = [
  ['Release notes', 'claude-opus-4-5', 'You turn merged pull requests into release notes for people who do not read code.'],
  ['Parser maintainer', 'claude-sonnet-4-5', 'You keep the parser of this repository correct. You run its tests before you answer.'],
  ['Support triage', 'claude-haiku-4-5', 'You sort incoming mail by product and urgency, and you never answer it.'],
  ['Deployments', 'claude-opus-4-5', 'You roll releases out. You ask before you touch production.'],
];

// Makes agents, sessions in every state, keys; and says at which paths of the console they are.
export async function furnished() {
  await connected();
  await api('POST', `/api/agent-runtimes/${RUNTIME}/credentials/probe`);
  const agents = [];
  for (const [name, model, system] of AGENTS) agents.push(await newAgent({ name, model, system, description: system.split('.')[0] }));
  const [notes, parser, triage, deployments] = agents;

  const told = await newSession(notes, 'What changed since version 2.3?');
  const failed = await newSession(triage, '/overload Sort the mail of this morning.');
  const fixed = await newSession(parser, '/fix A test of the parser fails since this morning. Please find out why, and fix it.');
  const asking = await newSession(deployments, '/deploy Roll out 2.4.0.');
  const running = await newSession(triage, '/long Watch the inbox and sort what comes.');
  await settled(told);
  await settled(fixed);
  await settled(failed, 'error');
  await settled(asking, 'requires_action');
  await until('the long turn runs', async () => (await session(running)).status === 'running');
  await api('POST', '/api/agents/' + notes + '/pause');

  const day = 24 * 60 * 60;
  const expires_at = Math.floor(Date.now() / 1000) + 90 * day;
  await api('POST', '/api/keys', { label: 'Dashboard in the hall', role: 'reader', owner_id: 'local-user', expires_at }, { status: 201 });
  await api('POST', '/api/keys', { label: 'Nightly job', role: 'member', owner_id: 'local-user' }, { status: 201 });
  const paths = {
    overview: '/console',
    runtimes: '/console/runtimes',
    runtime: `/console/runtimes/${RUNTIME}`,
    credentials: '/console/settings/credentials',
    agents: '/console/agents',
    'new-agent': '/console/agents/new',
    agent: `/console/agents/${parser}`,
    sessions: '/console/sessions',
    session: `/console/sessions/${fixed}`,
    approval: `/console/sessions/${asking}`,
    keys: '/console/keys',
  };
  return { agents: { notes, parser, triage, deployments }, sessions: { told, failed, fixed, asking, running }, paths };
}
