//! Paths that every server reads alike.

use percent_encoding::percent_decode;

/// What is wrong with a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PathFault {
    /// Not `/` and then something other than `/`.
    #[error("must start with one slash")]
    Start,
    /// A character that must be percent-encoded, or a `%` without two hex digits.
    #[error("holds a character that must be percent-encoded")]
    Character,
    /// A `.` or `..` between slashes, in any spelling.
    #[error("has a dot segment")]
    DotSegment,
    /// A slash, backslash or control character in percent-encoding.
    #[error("hides a slash, a backslash or a control character")]
    Hidden,
}

/// Accepts a path that every server reads alike: `/`, plain characters, and no segment that changes its meaning when it
/// is decoded once or twice.
pub(super) fn check_path(path: &str) -> Result<(), PathFault> {
    let rest = path.strip_prefix('/').ok_or(PathFault::Start)?;
    if rest.starts_with('/') {
        return Err(PathFault::Start);
    }
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@/%".contains(&byte);
    if !path.bytes().all(plain) {
        return Err(PathFault::Character);
    }
    let mut escapes = path.split('%').skip(1);
    if !escapes.all(|after| after.len() >= 2 && after.bytes().take(2).all(|byte| byte.is_ascii_hexdigit())) {
        return Err(PathFault::Character);
    }
    rest.split('/').try_for_each(check_segment)
}

fn check_segment(segment: &str) -> Result<(), PathFault> {
    let once: Vec<u8> = percent_decode(segment.as_bytes()).collect();
    let twice: Vec<u8> = percent_decode(&once).collect();
    for decoded in [segment.as_bytes(), &once, &twice] {
        if decoded.iter().any(|&byte| byte == b'/' || byte == b'\\' || byte.is_ascii_control()) {
            return Err(PathFault::Hidden);
        }
        // Some servers drop what follows a semicolon before they look for dots.
        let name = decoded.split(|&byte| byte == b';').next().unwrap_or_default();
        if name == b"." || name == b".." {
            return Err(PathFault::DotSegment);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_path_is_accepted() {
        for path in [
            "/",
            "/sessions",
            "/a/b/",
            "/a//b",
            "/a.txt",
            "/a:b@c",
            "/%20x",
            "/...",
            "/.well-known",
            "/a;v=1",
            "/~u/$x,(y)",
        ] {
            assert_eq!(check_path(path), Ok(()), "{path}");
        }
    }

    #[test]
    fn a_path_that_could_be_read_otherwise_is_refused() {
        use PathFault::{Character, DotSegment, Hidden, Start};
        let table = [
            (Start, &["", "a", "*", "http://evil.com/", "//evil.com", "//", "@evil.com", ":80/", "?a=b", "%2fa"][..]),
            (
                Character,
                &[
                    "/a?b",
                    "/a#b",
                    "/a\\b",
                    "/\\evil.com",
                    "/a b",
                    "/a\r\nHost: evil.com",
                    "/\0",
                    "/ä",
                    "/a%",
                    "/a%2",
                    "/a%zz",
                    "/%%20",
                    "/{a}",
                    "/a|b",
                    "/\"",
                    "/\u{7f}",
                ],
            ),
            (
                DotSegment,
                &[
                    "/.",
                    "/..",
                    "/../a",
                    "/a/..",
                    "/a/./b",
                    "/%2e",
                    "/%2E%2e/",
                    "/.%2e",
                    "/%252e%252e/",
                    "/a/%252e",
                    "/%2e%252e",
                    "/..;x",
                    "/.;/a",
                    "/%2e%2e%3bx",
                ],
            ),
            (
                Hidden,
                &[
                    "/a%2fb", "/a%2Fb", "/..%2f", "/a%5cb", "/a%5Cb", "/a%00", "/a%0d%0a", "/a%7f", "/a%252fb",
                    "/a%255cb", "/a%2500", "/a%250a",
                ],
            ),
        ];
        for (fault, paths) in table {
            for path in paths {
                assert_eq!(check_path(path), Err(fault), "{path:?}");
            }
        }
    }
}
