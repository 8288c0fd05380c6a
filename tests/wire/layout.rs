//! JSON as it came: the order of members and the digits of numbers are part of the wire, and the layout is ours.

use std::fmt;

use serde::{
    Deserialize,
    de::{Deserializer, MapAccess, Visitor},
};
use serde_json::value::RawValue;

/// What fits stays in one line.
const COLUMNS: usize = 112;

/// A value whose objects keep their order.
#[derive(Debug, Clone, PartialEq)]
pub enum Json {
    /// A text, without its quotes and escapes.
    Text(String),
    /// A number, `true`, `false` or `null`, as it stands there.
    Word(String),
    List(Vec<Json>),
    Object(Vec<(String, Json)>),
}

/// The members of an object, in their order.
struct Members(Vec<(String, Box<RawValue>)>);

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct InOrder;
        impl<'de> Visitor<'de> for InOrder {
            type Value = Members;

            fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
                to.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        from.deserialize_map(InOrder)
    }
}

impl Json {
    /// The value that a text is; none if it is no JSON.
    pub fn read(text: &str) -> Option<Self> {
        let text = text.trim();
        Some(match text.as_bytes().first()? {
            b'{' => {
                let Members(members) = serde_json::from_str(text).ok()?;
                let read = |(name, value): (String, Box<RawValue>)| Some((name, Self::read(value.get())?));
                Self::Object(members.into_iter().map(read).collect::<Option<_>>()?)
            }
            b'[' => {
                let list: Vec<Box<RawValue>> = serde_json::from_str(text).ok()?;
                Self::List(list.iter().map(|value| Self::read(value.get())).collect::<Option<_>>()?)
            }
            b'"' => Self::Text(serde_json::from_str(text).ok()?),
            _ => {
                serde_json::from_str::<&RawValue>(text).ok()?;
                Self::Word(text.to_owned())
            }
        })
    }

    pub fn in_a_line(&self) -> String {
        let text = |text: &str| serde_json::to_string(text).unwrap();
        match self {
            Self::Text(value) => text(value),
            Self::Word(word) => word.clone(),
            Self::List(list) => format!("[{}]", list.iter().map(Self::in_a_line).collect::<Vec<_>>().join(", ")),
            Self::Object(members) => {
                let members = members.iter().map(|(name, value)| format!("{}: {}", text(name), value.in_a_line()));
                format!("{{{}}}", members.collect::<Vec<_>>().join(", "))
            }
        }
    }

    pub fn laid_out(&self) -> String {
        let mut lines = String::new();
        self.write(0, "", "", &mut lines);
        lines
    }

    fn write(&self, depth: usize, before: &str, behind: &str, to: &mut String) {
        let (indent, line) = (" ".repeat(2 * depth), self.in_a_line());
        let fits = indent.len() + before.len() + line.chars().count() + behind.len() <= COLUMNS;
        let (open, close, count) = match self {
            Self::List(list) if !fits => ('[', ']', list.len()),
            Self::Object(members) if !fits => ('{', '}', members.len()),
            _ => return to.push_str(&format!("{indent}{before}{line}{behind}\n")),
        };
        to.push_str(&format!("{indent}{before}{open}\n"));
        let comma = |place: usize| if place + 1 < count { "," } else { "" };
        match self {
            Self::List(list) => {
                list.iter().enumerate().for_each(|(place, value)| value.write(depth + 1, "", comma(place), to));
            }
            Self::Object(members) => members.iter().enumerate().for_each(|(place, (name, value))| {
                value.write(depth + 1, &format!("{}: ", serde_json::to_string(name).unwrap()), comma(place), to);
            }),
            Self::Text(_) | Self::Word(_) => {}
        }
        to.push_str(&format!("{indent}{close}{behind}\n"));
    }
}

#[test]
fn the_order_of_members_and_the_digits_of_numbers_stay() {
    let json = Json::read(r#"{"b":1.50,"a":[true,null,"ü\n"],"":{}}"#).unwrap();
    assert_eq!(json.laid_out(), "{\"b\": 1.50, \"a\": [true, null, \"ü\\n\"], \"\": {}}\n");
    assert_eq!(Json::read("<html>"), None);
    assert_eq!(Json::read("{\"a\":1} and more"), None);
}

#[test]
fn what_does_not_fit_has_a_line_for_each_member() {
    let long = "x".repeat(COLUMNS);
    let json = Json::read(&format!(r#"{{"a":"{long}","b":[1]}}"#)).unwrap();
    assert_eq!(json.laid_out(), format!("{{\n  \"a\": \"{long}\",\n  \"b\": [1]\n}}\n"));
}
