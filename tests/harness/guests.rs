//! Components made for tests and measurements, out of the contract itself.

use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

/// The manifest of the components that are made here.
pub const MANIFEST: &str = r#"
    id = "hostile"
    contract = "0.1"
    auth = { header = "x-api-key" }
    allow = [{ methods = ["GET"], path = "/v1" }]
"#;

const PACKAGE: &str = "package lap:runtime@0.1.0;";

const CONTRACT: [&str; 3] = [
    include_str!("../../wit/lap-runtime/0.1/types.wit"),
    include_str!("../../wit/lap-runtime/0.1/upstream.wit"),
    include_str!("../../wit/lap-runtime/0.1/runtime.wit"),
];

/// The functions of the contract, with their parameters as a module has them. Each answers with an address.
const CALLS: [(&str, usize); 10] = [
    ("describe", 0),
    ("provision", 16),
    ("open", 1),
    ("listen", 2),
    ("send", 4),
    ("on-frames", 6),
    ("on-end", 3),
    ("catch-up", 5),
    ("close", 2),
    ("models", 0),
];

/// Where nothing but zeros is, which reads as a good answer without anything in it to every call but `describe`.
pub const NOTHING: &str = "(i32.const 4096)";

/// A component that describes itself as [`MANIFEST`] says and answers every call with nothing, except those of `calls`: the
/// name of one, and what it does instead. It may call `$send` and `$log`; `items` is whatever else it needs.
pub fn guest(items: &str, calls: &[(&str, &str)]) -> Vec<u8> {
    guest_named("hostile", items, calls)
}

/// The same under another name.
pub fn guest_named(id: &str, items: &str, calls: &[(&str, &str)]) -> Vec<u8> {
    let functions: String = CALLS
        .iter()
        .map(|(name, parameters)| {
            let default = if *name == "describe" { "(i32.const 1024)" } else { NOTHING };
            let body = calls.iter().find(|(call, _)| call == name).map_or(default, |(_, body)| *body);
            let parameters = "i32 ".repeat(*parameters);
            format!(r#"(func (export "lap:runtime/adapter@0.1.0#{name}") (param {parameters}) (result i32) {body})"#)
        })
        .collect();
    encode(&format!(
        r#"(module
            (import "lap:runtime/upstream@0.1.0" "send" (func $send (param {})))
            (import "lap:runtime/log@0.1.0" "write" (func $log (param i32 i32 i32)))
            (memory (export "memory") 64)
            (global $free (mut i32) (i32.const 65536))
            (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (local $at i32)
                ;; Nothing is given back: what is beyond the end begins anew.
                (if (i32.gt_u (i32.add (global.get $free) (local.get 3)) (i32.const 4194304))
                    (then (global.set $free (i32.const 65536))))
                (local.set $at (global.get $free))
                (global.set $free
                    (i32.and (i32.add (i32.add (local.get $at) (local.get 3)) (i32.const 7)) (i32.const -8)))
                (local.get $at))
            {}
            {functions}
            {items})"#,
        "i32 ".repeat(11),
        description(id),
    ))
}

/// A component whose functions all do `body` and then crash, beside whatever else `items` defines.
pub fn component(items: &str, body: &str) -> Vec<u8> {
    let body = format!("{body} unreachable");
    guest(items, &CALLS.map(|(name, _)| (name, body.as_str())))
}

/// The data of what `describe` answers.
fn description(id: &str) -> String {
    let texts = [id, "Hostile", "https://example.com", "nobody", "Nobody", "x-api-key", ""];
    let (mut record, mut at) = (String::new(), 2048_usize);
    for text in texts {
        for number in [at, text.len()] {
            let bytes = u32::try_from(number).unwrap().to_le_bytes();
            record.extend(bytes.map(|byte| format!("\\{byte:02x}")));
        }
        at += text.len();
    }
    format!(r#"(data (i32.const 1024) "{record}") (data (i32.const 2048) "{}")"#, texts.concat())
}

/// A module's text with the contract's types as a component.
fn encode(module: &str) -> Vec<u8> {
    // One text: whoever includes this file has another folder.
    let contract = CONTRACT.map(|text| text.replace(PACKAGE, "")).concat();
    let mut resolve = Resolve::default();
    let package = resolve.push_str("lap.wit", &format!("{PACKAGE}\n{contract}")).unwrap();
    let world = resolve.select_world(&[package], Some("runtime")).unwrap();
    let mut module = wat::parse_str(module).unwrap();
    embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8, false).unwrap();
    ComponentEncoder::default().validate(true).module(&module).unwrap().encode().unwrap()
}

/// A component with something more at its end.
pub fn extended(component: &[u8], more: &str) -> Vec<u8> {
    let text = wasmprinter::print_bytes(component).unwrap();
    wat::parse_str(format!("{}{more})", &text[..text.rfind(')').unwrap()])).unwrap()
}
