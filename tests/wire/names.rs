//! Names for what cannot be the same twice: ids, times, ports, keys, digests.
//!
//! An id is a prefix and at least sixteen letters with a digit among them; it is numbered among those of its prefix, and an
//! event's among those of its type. A request's id is always `<req>`: each is a new one.

use std::collections::HashMap;

use super::layout::Json;

/// An id has at least so many letters behind its prefix; so many hex digits alone are a digest or a key.
const OPAQUE_MIN: usize = 16;
/// What is the same in every store.
const CONSTANT: &str = "env_00000000000000000000000000000000";
/// Members that measure what a machine does.
const MEASURES: [&str; 7] =
    ["active_ms", "active_seconds", "bytes", "duration_seconds", "free_bytes", "reserve_bytes", "retry_after_ms"];

#[derive(Default)]
pub struct Names {
    known: HashMap<String, String>,
    counts: HashMap<String, usize>,
    /// Whole texts with names of their own, the longest first.
    called: Vec<(String, String)>,
}

impl Names {
    /// A text that shall have this name wherever it appears.
    pub fn call(&mut self, text: &str, name: &str) {
        self.called.push((text.to_owned(), format!("<{name}>")));
        self.called.sort_by_key(|(text, _)| std::cmp::Reverse(text.len()));
    }

    pub fn json(&mut self, json: &Json) -> Json {
        self.events(json);
        self.value("", json)
    }

    /// Events are named after their type, before anything that refers to them.
    fn events(&mut self, json: &Json) {
        match json {
            Json::List(list) => list.iter().for_each(|value| self.events(value)),
            Json::Object(members) => {
                let text = |wanted: &str| {
                    members.iter().find_map(|(name, value)| match value {
                        Json::Text(text) if name == wanted => Some(text.as_str()),
                        _ => None,
                    })
                };
                if let (Some(id), Some(kind)) = (text("id"), text("type"))
                    && kind.contains('.')
                    && let Some((prefix, _)) = parts(id)
                    && !self.known.contains_key(id)
                {
                    let name = self.numbered(&format!("{prefix} {kind}"), ' ');
                    self.known.insert(id.to_owned(), name);
                }
                members.iter().for_each(|(_, value)| self.events(value));
            }
            Json::Text(_) | Json::Word(_) => {}
        }
    }

    fn value(&mut self, name: &str, json: &Json) -> Json {
        match json {
            Json::Text(text) if name == "version" && text == env!("CARGO_PKG_VERSION") => {
                Json::Text("<version>".to_owned())
            }
            Json::Text(text) => Json::Text(self.text(text)),
            Json::Word(word) if MEASURES.contains(&name) && word.starts_with(|c: char| c.is_ascii_digit()) => {
                Json::Word(format!("<{name}>"))
            }
            Json::Word(word) => Json::Word(time(word).unwrap_or(word).to_owned()),
            Json::List(list) => Json::List(list.iter().map(|value| self.value("", value)).collect()),
            Json::Object(members) => {
                let named = |(name, value): &(String, Json)| (self.text(name), self.value(name, value));
                Json::Object(members.iter().map(named).collect())
            }
        }
    }

    /// A text with names in place of what cannot be the same.
    pub fn text(&mut self, text: &str) -> String {
        let mut text = text.to_owned();
        for (known, name) in &self.called {
            text = text.replace(known, name);
        }
        let (mut named, mut rest) = (String::new(), text.as_str());
        while let Some(first) = rest.chars().next() {
            if named.ends_with("127.0.0.1:") && first.is_ascii_digit() {
                rest = rest.trim_start_matches(|c: char| c.is_ascii_digit());
                named.push_str("<port>");
            } else if let Some(length) = timestamp(rest) {
                named.push_str(if rest.starts_with("1970") { &rest[..length] } else { "<time>" });
                rest = &rest[length..];
            } else if is_word(first) {
                let end = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
                named.push_str(&self.word(&rest[..end]));
                rest = &rest[end..];
            } else {
                named.push(first);
                rest = &rest[first.len_utf8()..];
            }
        }
        named
    }

    fn word(&mut self, word: &str) -> String {
        if let Some(name) = self.known.get(word) {
            return name.clone();
        }
        let kind = match parts(word) {
            _ if word == CONSTANT => return word.to_owned(),
            Some(("req", _)) => return "<req>".to_owned(),
            Some((_, more)) if !more.is_empty() => {
                let id = word.strip_suffix(more).unwrap();
                return self.word(id) + more;
            }
            Some((prefix, _)) => prefix,
            None if is_hex(word) => "hex",
            None => return word.to_owned(),
        };
        let name = self.numbered(kind, '_');
        self.known.insert(word.to_owned(), name.clone());
        name
    }

    fn numbered(&mut self, kind: &str, gap: char) -> String {
        let count = self.counts.entry(kind.to_owned()).or_default();
        *count += 1;
        format!("<{kind}{gap}{count}>")
    }
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

fn is_hex(word: &str) -> bool {
    let hex = word.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    word.len() >= 12 && hex && word.bytes().any(|b| b.is_ascii_digit()) && !word.bytes().all(|b| b.is_ascii_digit())
}

/// What stands before and behind the letters of an id that only the machine knows.
fn parts(word: &str) -> Option<(&str, &str)> {
    let is_opaque = |part: &str| {
        let letters = part.bytes().all(|b| b.is_ascii_digit() || b.is_ascii_lowercase());
        letters && part.len() >= OPAQUE_MIN && part.bytes().any(|b| b.is_ascii_digit())
    };
    let opaque = word.split('_').skip(1).find(|part| is_opaque(part))?;
    let at = word.find(&format!("_{opaque}"))? + 1;
    let (prefix, more) = (&word[..at - 1], &word[at + opaque.len()..]);
    let lower = prefix.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
    (lower && !prefix.is_empty()).then_some((prefix, more))
}

/// A number that can only be a time: milliseconds or seconds since the epoch, of the years 2020 to 2096.
fn time(word: &str) -> Option<&'static str> {
    match word.parse::<u64>().ok()? {
        1_577_836_800_000..4_000_000_000_000 => Some("<ms>"),
        1_577_836_800..4_000_000_000 => Some("<s>"),
        _ => None,
    }
}

/// How long the time is that a text begins with, as RFC 3339 writes it in UTC.
fn timestamp(text: &str) -> Option<usize> {
    const FORM: &[u8] = b"0000-00-00T00:00:00";
    let bytes = text.as_bytes();
    let fits = |(form, byte): (&u8, &u8)| if *form == b'0' { byte.is_ascii_digit() } else { form == byte };
    if bytes.len() < FORM.len() || !FORM.iter().zip(bytes).all(fits) {
        return None;
    }
    let rest = &text[FORM.len()..];
    let fraction = rest.strip_prefix('.').map_or(0, |digits| 1 + digits.bytes().take_while(u8::is_ascii_digit).count());
    rest[fraction..].starts_with('Z').then_some(FORM.len() + fraction + 1)
}

#[test]
fn an_id_has_one_name_and_another_id_another_one() {
    let mut names = Names::default();
    let text = names.text("/session/ses_01a22892152c763e8b3971fcaa60d240 ses_01a22892152c763e8b3971fcaa60d241");
    assert_eq!(text, "/session/<ses_1> <ses_2>");
    assert_eq!(names.text("ses_01a22892152c763e8b3971fcaa60d240"), "<ses_1>");
    assert_eq!(names.text("msg_01a22892152c763e8b3971fcaa60d240_text"), "<msg_1>_text");
    assert_eq!(names.text("req_01a22892152c763e8b3971fcaa60d240"), "<req>");
    assert_eq!(names.text(CONSTANT), CONSTANT);
    assert_eq!(
        names.text("claude_managed_agents agent_toolset_20260401"),
        "claude_managed_agents agent_toolset_20260401"
    );
    assert_eq!(
        names.text("http://127.0.0.1:4010/x at 2026-11-29T18:29:51.734Z"),
        "http://127.0.0.1:<port>/x at <time>"
    );
    assert_eq!(names.text("sha256:38b0a360fd0210d9ab9c06d8"), "sha256:<hex_1>");
}

#[test]
fn an_event_is_named_after_its_type_also_where_it_is_referred_to() {
    let mut names = Names::default();
    let json = r#"{"of":"sevt_01sx7j8mc000000003n","e":{"id":"sevt_01sx7j8mc000000003n","type":"agent.message","n":1795976992045}}"#;
    let named = names.json(&Json::read(json).unwrap()).in_a_line();
    assert_eq!(
        named,
        r#"{"of": "<sevt agent.message 1>", "e": {"id": "<sevt agent.message 1>", "type": "agent.message", "n": <ms>}}"#
    );
}
