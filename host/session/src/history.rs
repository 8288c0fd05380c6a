//! One look into what the upstream remembers, page by page: which of it is news.

use std::{
    collections::HashSet,
    hash::{BuildHasher, RandomState},
};

use lap_model::contract::{ErrorKind, Frame, Frames};

use crate::{dedup::Seen, event, failure::Failure};

/// News that one look takes, in events and in bytes. A gap larger than this ends the turn in an error, with a word about it.
const NEWS_MAX: usize = 100_000;
const NEWS_BYTES_MAX: usize = 256 * 1024 * 1024;

/// Pages that one look reads. An upstream that has another one behind these has lost its place.
const PAGES_MAX: usize = 10_000;

/// A page of what the upstream remembers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// In the shape that a feed has them.
    pub frames: Vec<Frame>,
    /// True when it lists the latest first.
    pub newest_first: bool,
    /// Where the next page is.
    pub next: Option<String>,
}

/// A look under way.
pub(crate) struct Look {
    news: Vec<Frame>,
    /// The order of the listing, as the first page with something on it has it: what a runtime guesses of one event says nothing.
    newest_first: Option<bool>,
    hasher: RandomState,
    cursors: HashSet<u64>,
    room: Room,
}

/// How many more news a look may bring.
struct Room {
    events: usize,
    bytes: usize,
}

impl Room {
    const WHOLE: Self = Self { events: NEWS_MAX, bytes: NEWS_BYTES_MAX };

    fn take(&mut self, bytes: usize) -> Option<()> {
        self.events = self.events.checked_sub(1)?;
        self.bytes = self.bytes.checked_sub(bytes)?;
        Some(())
    }
}

impl Default for Look {
    fn default() -> Self {
        Self {
            news: Vec::new(),
            newest_first: None,
            hasher: RandomState::new(),
            cursors: HashSet::new(),
            room: Room::WHOLE,
        }
    }
}

impl Look {
    /// Takes a page. Returns where the next one is, as far as it has to be read.
    ///
    /// # Errors
    /// When there is more than the host takes, or no end of it.
    pub(crate) fn take(&mut self, page: Page, seen: &Seen) -> Result<Option<String>, Failure> {
        let (listed, known) = (page.frames.len(), self.news.len());
        if listed > 0 {
            self.newest_first.get_or_insert(page.newest_first);
        }
        let unknown = |frame: &Frame| event::head(&frame.data).map_or(true, |head| !seen.contains(&head, &frame.data));
        self.news.extend(page.frames.into_iter().filter(unknown));
        let mut news = self.news[known..].iter();
        if news.any(|frame| self.room.take(frame.data.len()).is_none()) {
            let mebibytes = NEWS_BYTES_MAX / (1024 * 1024);
            let message = format!(
                "the upstream reports more than {NEWS_MAX} events, or {mebibytes} MiB of them, that the host has not seen"
            );
            return Err(Failure::of(ErrorKind::Internal, message));
        }
        // Behind a page without news lies only what is older still.
        let old = self.newest_first == Some(true) && listed > 0 && self.news.len() == known;
        let Some(next) = page.next.filter(|_| !old) else { return Ok(None) };
        if !self.cursors.insert(self.hasher.hash_one(&next)) || self.cursors.len() > PAGES_MAX {
            let message = "the upstream's history has no end: its pages lead back to each other";
            return Err(Failure::of(ErrorKind::Upstream, message));
        }
        Ok(Some(next))
    }

    /// The news, oldest first, each batch for one call.
    pub(crate) fn news(mut self) -> Vec<Frames> {
        if self.newest_first == Some(true) {
            self.news.reverse();
        }
        Frames::pack(self.news.iter().map(Frame::pieces))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    fn page(names: &[&str], newest_first: bool, next: Option<&str>) -> Page {
        let frame = |name: &&str| Frame { name: String::new(), data: format!(r#"{{"type":"a","id":"{name}"}}"#) };
        Page { frames: names.iter().map(frame).collect(), newest_first, next: next.map(str::to_owned) }
    }

    #[test]
    fn a_gap_has_room_for_so_many_events_and_so_many_bytes() {
        let taken = |bytes: usize| {
            let mut room = Room::WHOLE;
            (0..=NEWS_MAX).take_while(|_| room.take(bytes).is_some()).count()
        };
        assert_eq!(taken(0), NEWS_MAX);
        assert_eq!(taken(1024 * 1024), 256);
        assert_eq!(taken(NEWS_BYTES_MAX + 1), 0);
    }

    #[test]
    fn a_listing_of_the_latest_first_is_read_as_far_as_it_is_news() {
        let (mut look, mut seen) = (Look::default(), Seen::new([7; 16]));
        seen.insert(&event::head(r#"{"type":"a","id":"1"}"#).unwrap(), "");
        assert_eq!(look.take(page(&["3", "2"], true, Some("p")), &seen), Ok(Some("p".to_owned())));
        assert_eq!(look.take(page(&["1"], true, Some("q")), &seen), Ok(None));
        let news = look.news();
        let data: Vec<_> = news[0].pieces().map(|(_, data)| data.to_owned()).collect();
        assert_eq!(data, [r#"{"type":"a","id":"2"}"#, r#"{"type":"a","id":"3"}"#]);
    }

    #[test]
    fn the_order_of_a_listing_is_that_of_its_first_page_with_something_on_it() {
        let (mut look, seen) = (Look::default(), Seen::new([7; 16]));
        for (names, newest_first, next) in
            [(&[][..], true, Some("p")), (&["1", "2"], false, Some("q")), (&["3"], true, None)]
        {
            assert!(look.take(page(names, newest_first, next), &seen).is_ok());
        }
        let news = look.news();
        let data: Vec<_> = news[0].pieces().map(|(_, data)| data.to_owned()).collect();
        assert_eq!(data, ["1", "2", "3"].map(|name| format!(r#"{{"type":"a","id":"{name}"}}"#)));
    }

    #[test]
    fn a_listing_that_leads_back_to_itself_is_no_history() {
        let (mut look, seen) = (Look::default(), Seen::new([7; 16]));
        assert!(look.take(page(&["1"], false, Some("p")), &seen).is_ok());
        assert!(look.take(page(&["2"], false, Some("p")), &seen).is_err());
    }
}
