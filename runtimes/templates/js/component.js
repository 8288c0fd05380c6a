// What the component exports: the adapter behind the contract of wit/. Only here stand the two things that the host
// gives to a component, so that everything else runs in Node as well.
import { write } from 'lap:runtime/log@0.1.0';
import { send } from 'lap:runtime/upstream@0.1.0';

import * as chat from './adapter.js';
import { exported } from './lap.js';

export const adapter = exported(chat, { send, write });
