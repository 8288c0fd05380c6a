//! Events in the making.

/// Events that have no place in a log yet, packed: the lengths of each event's type and JSON, and all text in one run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Draft {
    lengths: Vec<(u8, u32)>,
    text: String,
}

impl Draft {
    /// Adds an event. Its type is at most 64 bytes and its JSON at most 1 MiB: the session has checked both.
    pub fn push(&mut self, kind: &str, json: &str) {
        let lengths = (u8::try_from(kind.len()), u32::try_from(json.len()));
        let (Ok(kind_len), Ok(json_len)) = lengths else { return };
        self.lengths.push((kind_len, json_len));
        self.text.push_str(kind);
        self.text.push_str(json);
    }

    /// How many events there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.lengths.len()
    }

    /// The size of the events' text.
    #[must_use]
    pub const fn text_bytes(&self) -> u64 {
        self.text.len() as u64
    }

    /// True when there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.lengths.is_empty()
    }

    /// The type and the JSON of each event, in order.
    pub fn events(&self) -> impl Iterator<Item = (&str, &str)> {
        let mut rest = self.text.as_str();
        self.lengths.iter().map_while(move |&(kind_len, json_len)| {
            let (kind, after) = rest.split_at_checked(usize::from(kind_len))?;
            let (json, after) = after.split_at_checked(json_len as usize)?;
            rest = after;
            Some((kind, json))
        })
    }

    /// The lengths of each event's type and JSON, and the text of all.
    #[must_use]
    pub fn into_parts(self) -> (Vec<(u8, u32)>, String) {
        (self.lengths, self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_found_again_in_their_order() {
        let mut draft = Draft::default();
        draft.push("a", "{}");
        draft.push("b.c", r#"{"x":1}"#);
        assert_eq!(draft.events().collect::<Vec<_>>(), [("a", "{}"), ("b.c", r#"{"x":1}"#)]);
        assert_eq!((draft.len(), draft.text_bytes(), draft.is_empty()), (2, 13, false));
    }
}
