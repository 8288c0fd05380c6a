//! The contract `lap:runtime@0.1` as Rust types. Generated; nothing else stands here.
#![allow(missing_docs, reason = "generated from wit/, where the documentation is")]
#![allow(unsafe_code, reason = "generated: the border between host and guest is a C ABI")]

wit_bindgen::generate!({
    path: "../../wit/lap-runtime/0.1",
    world: "runtime",
    pub_export_macro: true,
    export_macro_name: "export_adapter",
    default_bindings_module: "lap_runtime_sdk::bindings",
    additional_derives: [PartialEq],
});
