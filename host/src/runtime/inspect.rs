//! The shape of a stranger's component, read from its sections alone: what is too large to compile is refused before a
//! compiler sees it.
//!
//! One pass over the bytes, in memory that does not depend on them. Whether the component is valid is for the compiler
//! to say.

use std::ops::Range;

use wasmparser::{Parser, Payload};

/// The largest component. One that componentize-py makes has 18 to 21 MB, since it brings its interpreter.
pub const COMPONENT_BYTES_MAX: usize = 32 * 1024 * 1024;

/// The largest body of a function; compiling one takes more than proportionally long. The largest of Python's interpreter
/// has 417 KiB.
const FUNCTION_BYTES_MAX: usize = 1024 * 1024;

/// Functions with a body, over all modules. Python's interpreter with its libraries has 13,500.
const FUNCTIONS_MAX: usize = 100_000;

/// Bytes in all sections of types, over all modules.
const TYPE_BYTES_MAX: usize = 2 * 1024 * 1024;

/// Components and modules in each other, counted from the outermost. componentize-py makes two levels, jco four.
const DEPTH_MAX: usize = 8;

/// Modules and components in all. componentize-py makes about forty.
const PARTS_MAX: usize = 256;

/// Why a component is not given to the compiler.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ShapeError {
    /// It goes beyond what this host compiles.
    #[error("{what}: {found}, and this host compiles at most {max}: make the component smaller")]
    TooLarge {
        /// What is counted, with its unit.
        what: &'static str,
        /// How much there is of it, at least.
        found: usize,
        /// How much there may be.
        max: usize,
    },
    /// Its sections cannot be told apart.
    #[error("not a WebAssembly component: {0}")]
    Malformed(String),
}

/// Refuses what is too large.
///
/// # Errors
/// At the first thing that is.
pub fn inspect(component: &[u8]) -> Result<(), ShapeError> {
    at_most("bytes of the component", component.len(), COMPONENT_BYTES_MAX)?;
    let (mut functions, mut type_bytes, mut depth, mut parts) = (0_usize, 0_usize, 1_usize, 0_usize);
    for payload in Parser::new(0).parse_all(component) {
        let payload = payload.map_err(|error| ShapeError::Malformed(error.to_string()))?;
        match &payload {
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => {
                (depth, parts) = (depth + 1, parts + 1);
                at_most("levels of components in each other", depth, DEPTH_MAX)?;
                at_most("modules and components", parts, PARTS_MAX)?;
            }
            Payload::End(_) => depth = depth.saturating_sub(1),
            Payload::CodeSectionEntry(body) => {
                functions += 1;
                at_most("functions", functions, FUNCTIONS_MAX)?;
                at_most("bytes of a function", length(&body.range()), FUNCTION_BYTES_MAX)?;
            }
            Payload::TypeSection(_) | Payload::ComponentTypeSection(_) | Payload::CoreTypeSection(_) => {
                type_bytes += payload.as_section().map_or(0, |(_, range)| length(&range));
                at_most("bytes of types", type_bytes, TYPE_BYTES_MAX)?;
            }
            _ => {}
        }
    }
    Ok(())
}

fn length(range: &Range<u64>) -> usize {
    usize::try_from(range.end.saturating_sub(range.start)).unwrap_or(usize::MAX)
}

const fn at_most(what: &'static str, found: usize, max: usize) -> Result<(), ShapeError> {
    if found > max { Err(ShapeError::TooLarge { what, found, max }) } else { Ok(()) }
}
