//! Which API a request speaks, and what that API wants of every request.

use http::{HeaderMap, StatusCode};

use super::error::Error;

/// Every request of the Anthropic API names a version. Which one makes no difference here.
const VERSION: &str = "anthropic-version";

/// What a request asks for that is not for everybody yet, separated by commas, in one header or in several.
const BETA: &str = "anthropic-beta";

/// The words that an answer is told in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dialect {
    /// Those of the LiteLLM Agent Platform.
    Lap,
    /// Those of Anthropic's API.
    Anthropic,
}

impl Dialect {
    /// The dialect that a request's headers hint at.
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let hints = headers.contains_key(VERSION) || headers.contains_key(BETA);
        if hints { Self::Anthropic } else { Self::Lap }
    }
}

/// Which dialects a route speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Speaks {
    /// The platform's.
    Lap,
    /// Anthropic's; with the betas of which its requests must ask for one.
    Anthropic {
        /// Their names, the usual one first; none for what is for everybody.
        betas: &'static [&'static str],
    },
    /// Whichever the headers hint at.
    Both,
    /// The console's: pages for people. It is no API of its own.
    Browser,
}

impl Speaks {
    /// The dialect of the answer to a request.
    pub(super) const fn dialect(self, hinted: Dialect) -> Dialect {
        match self {
            Self::Lap | Self::Browser => Dialect::Lap,
            Self::Anthropic { .. } => Dialect::Anthropic,
            Self::Both => hinted,
        }
    }

    /// Refuses a request without the headers of its dialect, in the order in which Anthropic's service does.
    pub(super) fn check(self, headers: &HeaderMap) -> Result<(), Error> {
        let Self::Anthropic { betas } = self else { return Ok(()) };
        if let Some(usual) = betas.first()
            && !asked(headers).any(|asked| betas.contains(&asked))
        {
            let message = format!("not found; this is a beta, which a request asks for with `{BETA}: {usual}`");
            return Err(Error::new(StatusCode::NOT_FOUND, "beta_missing", message));
        }
        if !headers.contains_key(VERSION) {
            let message = format!("{VERSION}: header is required");
            return Err(Error::new(StatusCode::BAD_REQUEST, "version_missing", message));
        }
        Ok(())
    }
}

/// The betas that a request asks for.
fn asked(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let lists = headers.get_all(BETA).iter().filter_map(|value| value.to_str().ok());
    lists.flat_map(|list| list.split(',').map(str::trim))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    #[test]
    fn a_beta_is_found_wherever_it_stands_and_is_missed_before_the_version() {
        let speaks = Speaks::Anthropic { betas: &["b-1", "b-2"] };
        let version = (VERSION, "2026-10-21");
        for betas in [
            &[(BETA, "b-1")][..],
            &[(BETA, "a-1,b-1")],
            &[(BETA, "a-1 , b-1 ")],
            &[(BETA, "a"), (BETA, "b-1")],
            &[(BETA, "b-2")],
        ] {
            let mut all = headers(&[version]);
            for (name, value) in betas {
                all.append(*name, value.parse().unwrap());
            }
            assert!(speaks.check(&all).is_ok(), "{betas:?}");
        }
        for (given, status) in
            [(&[][..], 404), (&[version], 404), (&[version, (BETA, "b-11")], 404), (&[(BETA, "b-1")], 400)]
        {
            assert_eq!(speaks.check(&headers(given)).unwrap_err().status.as_u16(), status, "{given:?}");
        }
        assert!(Speaks::Anthropic { betas: &[] }.check(&headers(&[version])).is_ok());
        assert!(Speaks::Both.check(&headers(&[])).is_ok());
    }
}
