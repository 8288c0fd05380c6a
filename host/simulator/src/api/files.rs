//! `/v1/files`: uploaded as a form, shown by their metadata, downloaded as bytes.

use bytes::Bytes;
use serde_json::{Value, json};

use super::{
    Answered, ApiError, Call, Deleted, Forward,
    page::{Ask, Order, page},
};
use crate::{clock::Moment, library::File};

const LIMIT_DEFAULT: usize = 20;

pub(super) fn create(call: &Call<'_>) -> Result<Answered, ApiError> {
    let part = part_of_form(call.content_type, call.body, "file")?;
    let id = call.world.ids.mint("file");
    let file = File { name: part.filename, mime_type: part.mime_type, bytes: part.bytes, created_at: Moment::now() };
    let answer = Answered::json(&shown(&id, &file));
    call.world.library().files.insert(id, file);
    answer
}

fn shown(id: &str, file: &File) -> Value {
    json!({
        "id": id, "type": "file", "filename": file.name, "mime_type": file.mime_type, "size_bytes": file.bytes.len(),
        "created_at": file.created_at, "downloadable": true, "expires_at": null,
    })
}

fn missing(id: &str) -> ApiError {
    ApiError::no_such("File", id)
}

pub(super) fn retrieve(call: &Call<'_>) -> Result<Answered, ApiError> {
    Answered::json(&shown(call.id, call.world.library().files.get(call.id).ok_or_else(|| missing(call.id))?))
}

pub(super) fn content(call: &Call<'_>) -> Result<Answered, ApiError> {
    let library = call.world.library();
    let file = library.files.get(call.id).ok_or_else(|| missing(call.id))?;
    Ok(Answered::Bytes { mime_type: file.mime_type.clone(), filename: file.name.clone(), bytes: file.bytes.clone() })
}

pub(super) fn delete(call: &Call<'_>) -> Result<Answered, ApiError> {
    call.world.library().files.remove(call.id).ok_or_else(|| missing(call.id))?;
    Answered::json(&Deleted { id: call.id, kind: "file_deleted" })
}

/// Of a session's files there are none: no agent here writes any.
pub(super) fn list(call: &Call<'_>) -> Result<Answered, ApiError> {
    let ask = Ask::<String>::parse(&call.query, Order::Descending, LIMIT_DEFAULT)?;
    if let Some(session) = call.query.get("scope_id") {
        call.world.session(session).ok_or_else(|| ApiError::no_such("Session", session))?;
        return Answered::json(&Forward::<()> { data: Vec::new(), next_page: None });
    }
    let library = call.world.library();
    let shown = library.files.iter().map(|(id, file)| (id.clone(), shown(id, file))).collect();
    let page = page(&shown, &ask, |_| true);
    Answered::json(&Forward { data: page.items, next_page: page.next })
}

/// A part of a form that is a file.
struct Part {
    filename: String,
    mime_type: String,
    bytes: Bytes,
}

/// The part of this name (RFC 7578).
fn part_of_form(content_type: Option<&str>, body: &Bytes, name: &str) -> Result<Part, ApiError> {
    let invalid = |what: &str| ApiError::invalid(format!("{name}: {what}"));
    let boundary = content_type.filter(|kind| kind.starts_with("multipart/form-data"));
    let boundary = boundary.and_then(|kind| parameter(kind, "boundary"));
    let delimiter = format!("--{}", boundary.ok_or_else(|| invalid("the body is no multipart form"))?);
    let mut from = find(body, delimiter.as_bytes()).ok_or_else(|| invalid("the form has no part"))?;
    loop {
        let start = from + delimiter.len();
        // Two hyphens behind the delimiter end the form; whatever breaks off before them is not a whole form.
        let rest =
            body.get(start..).filter(|rest| rest.starts_with(b"\r\n")).ok_or_else(|| invalid("Field required"))?;
        let head_end = find(rest, b"\r\n\r\n").ok_or_else(|| invalid("a part has no head"))?;
        let head = String::from_utf8_lossy(&rest[2..head_end]).into_owned();
        let content = start + head_end + 4;
        let end = format!("\r\n{delimiter}");
        let length = find(&body[content..], end.as_bytes()).ok_or_else(|| invalid("the form breaks off"))?;
        from = content + length + 2;
        let field = |of: &str| head.lines().find(|line| line.to_ascii_lowercase().starts_with(of));
        let disposition = field("content-disposition:").unwrap_or_default();
        if parameter(disposition, "name").as_deref() == Some(name) {
            let mime_type = field("content-type:").and_then(|line| line.split_once(':'));
            return Ok(Part {
                filename: parameter(disposition, "filename").ok_or_else(|| invalid("the part has no filename"))?,
                mime_type: mime_type.map_or("application/octet-stream", |(_, kind)| kind.trim()).to_owned(),
                bytes: body.slice(content..content + length),
            });
        }
    }
}

/// A parameter of a header's value.
fn parameter(value: &str, name: &str) -> Option<String> {
    let pairs = value.split(';').filter_map(|pair| pair.trim().split_once('='));
    let found = pairs.into_iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
    found.map(|(_, value)| value.trim_matches('"').to_owned())
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    let first = *wanted.first()?;
    let mut from = 0;
    while let Some(at) = bytes[from..].iter().position(|&byte| byte == first) {
        if bytes[from + at..].starts_with(wanted) {
            return Some(from + at);
        }
        from += at + 1;
    }
    None
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;

    const FORM: &str = "multipart/form-data; boundary=\"b\"";

    #[test]
    fn a_file_is_found_in_its_form() {
        let body = "--b\r\nContent-Disposition: form-data; name=\"expires_in_seconds\"\r\n\r\n3600\r\n--b\r\n\
                    Content-Disposition: form-data; name=\"file\"; filename=\"a.txt\"\r\nContent-Type: text/plain\r\n\r\n\
                    1\r\n--\r\n-b\r\n--b--\r\n";
        let part = part_of_form(Some(FORM), &Bytes::from(body), "file").ok().unwrap();
        assert_eq!(
            (&*part.filename, &*part.mime_type, &part.bytes[..]),
            ("a.txt", "text/plain", &b"1\r\n--\r\n-b"[..])
        );
        assert!(part_of_form(Some(FORM), &Bytes::from(body.replace("\"file\"", "\"x\"")), "file").is_err());
        for cut in 0..body.len() - "--\r\n".len() {
            let whole = part_of_form(Some(FORM), &Bytes::copy_from_slice(&body.as_bytes()[..cut]), "file");
            assert!(whole.is_err(), "{cut}");
        }
        assert!(part_of_form(Some("application/json"), &Bytes::from(body), "file").is_err());
    }
}
