//! The query of a URL, decoded.

use percent_encoding::percent_decode_str;

/// Pairs in their order. Unknown names are allowed: clients send `beta=true`.
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    pub(crate) fn parse(query: Option<&str>) -> Self {
        let pairs = query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty());
        Self(
            pairs.map(|pair| pair.split_once('=').unwrap_or((pair, ""))).map(|(k, v)| (decode(k), decode(v))).collect(),
        )
    }

    /// The first value of a name.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The values of a list, `name[]=a&name[]=b`.
    pub(crate) fn list(&self, name: &str) -> Vec<&str> {
        let named = |key: &str| key.strip_suffix("[]").unwrap_or(key) == name;
        self.0.iter().filter(|(key, _)| named(key)).map(|(_, value)| value.as_str()).collect()
    }

    pub(crate) fn is_true(&self, name: &str) -> bool {
        self.get(name) == Some("true")
    }
}

fn decode(text: &str) -> String {
    percent_decode_str(&text.replace('+', " ")).decode_utf8_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_values_are_decoded() {
        let query = Query::parse(Some("beta=true&types%5B%5D=a&types[]=b+c&created_at%5Bgt%5D=1%2B2&flag"));
        assert_eq!(query.list("types"), ["a", "b c"]);
        assert_eq!(query.get("created_at[gt]"), Some("1+2"));
        assert_eq!((query.get("flag"), query.get("none"), query.is_true("beta")), (Some(""), None, true));
    }
}
