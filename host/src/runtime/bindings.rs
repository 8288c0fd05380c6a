//! The contract `lap:runtime@0.1` as Rust types. Generated; nothing else stands here.
#![allow(missing_docs, reason = "generated from wit/, where the documentation is")]

wasmtime::component::bindgen!({
    path: "../wit/lap-runtime/0.1",
    world: "runtime",
    imports: { default: async | trappable },
    exports: { default: async },
    // What a component says of itself is kept, and its calls are recorded.
    additional_derives: [PartialEq, serde::Deserialize, serde::Serialize],
});
