"""What the component exports: the adapter behind the contract of wit/. Only here stands what exists within a component
alone, so that everything else runs in any Python."""

from componentize_py_types import Err
from wit_world.imports import log, types, upstream

import adapter
import lap

Adapter = lap.exported(adapter, types, upstream, log, Err)
