//! The connection of a session to its upstream: the feed, what came of it and is not mapped yet, and the looks into the
//! upstream's history that fill the gap before it.

use std::{collections::VecDeque, time::Duration};

use lap_model::contract::{BYTES_PER_CALL, Ending, Frames};

use crate::{Moment, backoff::Backoff, failure::Failure, history::Look, splitmix};

/// After which time an upstream is asked again that says that it has no such session: something on the way may say so for a
/// moment, such as a router that starts anew.
pub(crate) const MISSING_WAIT: Duration = Duration::from_secs(5);

/// For how long after the first time it is believed when it says so again.
const MISSING_MAX: Duration = Duration::from_mins(1);

/// How long after the look before each look into the upstream's history comes. One look is not enough: a history may
/// lag behind the stream, and then neither has what came between two streams.
const LOOKS: [Duration; 3] = [Duration::ZERO, Duration::from_secs(1), Duration::from_secs(2)];

/// For how long one look may go on: as long as an upstream is tried that cannot be reached.
const LOOK_MAX: Duration = Duration::from_mins(15);

/// A feed that lived for so long was a good one, whether it brought news or not.
const STEADY: Duration = Duration::from_secs(10);

/// Feeds in a row that are none, by what the upstream says of them, before there is no other try.
const ODD_MAX: u32 = 3;

/// How long what brings no event takes to be forgiven: a piece of the feed without a frame in it, which is large, and a call of
/// the guest that reports nothing new, with its frames, or twice as long as it took where that is more. Nothing more is read while all
/// of it together would take longer than the last of these: an upstream that repeats all of a log is read at full speed, and one
/// that never says anything costs no busy core.
const EMPTY_COST: Duration = Duration::from_millis(50);
const BARREN_COST: Duration = Duration::from_millis(2);
const BARREN_FRAME_COST: Duration = Duration::from_micros(20);
const FRUITLESS_MAX: Duration = Duration::from_secs(5);

/// A feed that keeps reading held up for so long without an event is given up, and another one asked for. One that repeats a
/// log of a million events first comes to an end of that before.
const FLOOD_MAX: Duration = Duration::from_secs(30);

/// Where the feed stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Feed {
    Closed,
    Open { since: Moment },
}

/// What the end of a feed means.
#[derive(Debug)]
pub(crate) enum End {
    /// The guest is told.
    Told(Ending),
    /// It may be asked for again, or not.
    Refused(Failure),
    /// There is no other try, for this reason.
    Hopeless(String),
}

/// The look under way.
pub(crate) struct Looking {
    pub(crate) look: Look,
    /// True when it fills the gap before a feed that has just been opened: nothing of that is mapped before.
    pub(crate) gap: bool,
    pub(crate) cursor: Option<String>,
    /// When it began.
    since: Moment,
}

/// The feed and what belongs to it.
pub(crate) struct Connection {
    feed: Feed,
    /// What the upstream said of the feed that makes it none, such as another content type.
    odd: Option<String>,
    /// Feeds in a row that were odd and brought nothing.
    odd_ones: u32,
    /// True when the upstream may have events that the log lacks.
    behind: bool,
    /// True when a feed ended before all looks into the history behind its beginning were made.
    unread: bool,
    /// The next planned look into the history, as an index of [`LOOKS`], and when.
    planned: Option<(usize, Moment)>,
    looking: Option<Looking>,
    connecting: Backoff,
    /// True while it is the way to the upstream that failed last, and not a feed.
    unreachable: bool,
    /// When the upstream has said that it has no such session, and was asked once more.
    missing: Option<Moment>,
    /// What came and is not mapped yet, in order; each batch for one call at the most.
    inbox: VecDeque<Frames>,
    inbox_bytes: usize,
    /// How the feed has ended, which is heeded once all of it is mapped.
    ended: Option<End>,
    /// True while the driver reads the next piece.
    reading: bool,
    /// Until when what came without bringing an event is to be forgiven.
    fruitless_until: Moment,
    /// Since when so much came without an event that reading is held up.
    flooded_since: Option<Moment>,
    /// Where the next chance comes from.
    chance: u64,
}

impl Connection {
    /// `fresh` when the session was made a moment ago, so that there is nothing to look for; `seed` decides how waits are
    /// spread.
    pub(crate) fn new(fresh: bool, seed: u64) -> Self {
        Self {
            feed: Feed::Closed,
            odd: None,
            odd_ones: 0,
            behind: !fresh,
            unread: false,
            planned: None,
            looking: None,
            connecting: Backoff::default(),
            unreachable: false,
            missing: None,
            inbox: VecDeque::new(),
            inbox_bytes: 0,
            ended: None,
            reading: false,
            fruitless_until: Moment::ZERO,
            flooded_since: None,
            chance: seed,
        }
    }

    pub(crate) fn chance(&mut self) -> u64 {
        splitmix(&mut self.chance)
    }

    pub(crate) const fn is_open(&self) -> bool {
        matches!(self.feed, Feed::Open { .. })
    }

    /// True when the feed is open and the gap before it is filled: what is sent now is not missed.
    pub(crate) fn is_ready(&self) -> bool {
        self.is_open() && !self.looking.as_ref().is_some_and(|looking| looking.gap)
    }

    /// True when another feed may be asked for now.
    pub(crate) fn may_connect(&self, now: Moment) -> bool {
        !self.is_open() && self.ended.is_none() && self.inbox.is_empty() && self.connecting.is_due(now)
    }

    /// True when the history has to be looked into before anything is sent.
    pub(crate) const fn is_behind(&self) -> bool {
        self.behind
    }

    /// When another feed may be asked for.
    pub(crate) const fn retry_at(&self) -> Moment {
        self.connecting.until()
    }

    /// The feed is open.
    pub(crate) fn opened(&mut self, now: Moment, odd: Option<String>) {
        self.feed = Feed::Open { since: now };
        self.odd = odd;
        (self.fruitless_until, self.flooded_since) = (now, None);
        if std::mem::replace(&mut self.behind, true) {
            self.looking = Some(Looking { look: Look::default(), gap: true, cursor: None, since: now });
        } else {
            self.reached(now);
        }
    }

    /// The feed is open and the gap before it filled: what fails from now on has not failed for long.
    fn reached(&mut self, now: Moment) {
        if std::mem::take(&mut self.unreachable) {
            self.connecting.found(now);
        }
    }

    /// A look begins that was planned, or that a quiet turn asks for.
    pub(crate) fn look(&mut self, now: Moment) {
        self.looking = Some(Looking { look: Look::default(), gap: false, cursor: None, since: now });
    }

    /// True when the look under way leads from page to page without an end.
    pub(crate) fn is_looking_for_too_long(&self, now: Moment) -> bool {
        self.looking.as_ref().is_some_and(|looking| now > looking.since + LOOK_MAX)
    }

    /// The look under way.
    pub(crate) const fn looking(&mut self) -> Option<&mut Looking> {
        self.looking.as_mut()
    }

    /// All of the history was read: what is news of it is mapped before anything else.
    pub(crate) fn looked(&mut self, now: Moment) {
        let Some(Looking { look, gap, .. }) = self.looking.take() else { return };
        if gap {
            self.reached(now);
        }
        for batch in look.news().into_iter().rev() {
            self.inbox_bytes += batch.bytes.len();
            self.inbox.push_front(batch);
        }
        let next = if gap { 1 } else { self.planned.map_or(LOOKS.len(), |(look, _)| look + 1) };
        self.planned = LOOKS.get(next).map(|wait| (next, now + *wait));
        self.unread &= self.planned.is_some();
    }

    /// The look is given up; it comes again as it was planned.
    pub(crate) fn look_given_up(&mut self) {
        self.looking = None;
    }

    /// When the next look is planned, while the feed is open.
    pub(crate) fn planned(&self) -> Option<Moment> {
        self.planned.filter(|_| self.is_open()).map(|(_, at)| at)
    }

    /// True while the history will be looked into again.
    pub(crate) fn looks_on(&self) -> bool {
        self.planned().is_some() || self.looking.is_some()
    }

    /// Whether something arrived is to be found out.
    pub(crate) fn look_for_prompt(&mut self, now: Moment) {
        self.planned = Some((0, now + LOOKS[0]));
    }

    /// The driver has read a piece.
    pub(crate) fn came(&mut self, frames: Frames) {
        self.reading = false;
        // What was read of a feed that is given up comes again.
        if frames.is_empty() || !self.is_open() {
            return;
        }
        // Whatever its head said: it is a feed.
        (self.odd, self.odd_ones) = (None, 0);
        self.inbox_bytes += frames.bytes.len();
        match self.inbox.back_mut() {
            // What came while the one before waited goes in one call with it.
            Some(last) if last.has_room_for(frames.len(), frames.bytes.len()) => last.append(&frames),
            _ => self.inbox.push_back(frames),
        }
    }

    #[cfg(test)]
    pub(crate) fn put_back(&mut self, batch: Option<Frames>) {
        if let Some(batch) = batch {
            self.inbox_bytes += batch.bytes.len();
            self.inbox.push_back(batch);
        }
    }

    /// The next batch to map.
    pub(crate) fn next_batch(&mut self) -> Option<Frames> {
        let batch = self.inbox.pop_front()?;
        self.inbox_bytes -= batch.bytes.len();
        Some(batch)
    }

    /// True when the driver is to read the next piece now. `now` counts only while reads bring nothing.
    pub(crate) fn reads_on(&mut self, now: Moment) -> bool {
        let reads = !self.reading && self.may_read() && now >= self.read_at();
        self.reading |= reads;
        reads
    }

    fn may_read(&self) -> bool {
        self.is_ready() && self.inbox_bytes < BYTES_PER_CALL
    }

    /// When the next piece may be read: later when many have brought nothing.
    fn read_at(&self) -> Moment {
        self.fruitless_until.saturating_sub(FRUITLESS_MAX)
    }

    /// When reading goes on that was held up.
    pub(crate) fn resumes_reading(&self, now: Moment) -> Option<Moment> {
        let at = self.read_at();
        (!self.reading && self.may_read() && at > now).then_some(at)
    }

    /// A piece of the feed had no frame in it.
    pub(crate) fn empty(&mut self, now: Moment) {
        self.fruitless(now, EMPTY_COST);
    }

    /// So many frames of the feed were no news, as the guest has found out in so long.
    pub(crate) fn barren(&mut self, now: Moment, frames: usize, took: Duration) {
        let frames = u32::try_from(frames).unwrap_or(u32::MAX);
        self.fruitless(now, (BARREN_COST + BARREN_FRAME_COST * frames).max(2 * took));
    }

    fn fruitless(&mut self, now: Moment, cost: Duration) {
        self.fruitless_until = self.fruitless_until.max(now) + cost;
        // A feed that is held up is read again in the very moment when it may be, so it is never far below the most.
        let flooded = self.fruitless_until > now + FRUITLESS_MAX / 2;
        self.flooded_since = if flooded { self.flooded_since.or(Some(now)) } else { None };
    }

    /// True when the feed says nothing for long, and that at full speed.
    pub(crate) fn is_flooded(&self, now: Moment) -> bool {
        self.is_open() && self.flooded_since.is_some_and(|since| now >= since + FLOOD_MAX)
    }

    /// The log has grown: the upstream is well.
    pub(crate) fn grown(&mut self) {
        self.connecting.reset();
        self.flooded_since = None;
    }

    /// True when something may be missing in the log that a look into the history would have found.
    pub(crate) const fn is_unread(&self) -> bool {
        self.unread
    }

    pub(crate) const fn leave_unread(&mut self) {
        self.unread = false;
    }

    /// The feed is over.
    pub(crate) fn closed(&mut self, now: Moment) {
        self.reading = false;
        self.unread |= self.looks_on();
        self.planned = None;
        self.looking = None;
        // A guest that is told of the end may ask for another feed: that is no second failure.
        let Feed::Open { since } = std::mem::replace(&mut self.feed, Feed::Closed) else { return };
        if now >= since + STEADY {
            self.connecting.reset();
        }
        let chance = self.chance();
        self.connecting.wait_little(now, chance);
    }

    /// The feed is over by itself.
    pub(crate) fn ended(&mut self, now: Moment, ending: Ending) {
        self.closed(now);
        self.odd_ones += u32::from(self.odd.is_some());
        let odd = self.odd.take().filter(|_| self.odd_ones >= ODD_MAX);
        let exhausted = self.connecting.is_exhausted(now);
        let barren = exhausted.then(|| "the upstream's feed ends again and again without an event".to_owned());
        self.ended = Some(odd.or(barren).map_or(End::Told(ending), End::Hopeless));
    }

    /// The upstream does not go on with the feed.
    pub(crate) fn refused(&mut self, failure: Failure) {
        self.feed = Feed::Closed;
        self.reading = false;
        self.planned = None;
        self.looking = None;
        self.ended = Some(End::Refused(failure));
    }

    /// How the feed has ended, once all that it brought is mapped.
    pub(crate) fn next_ending(&mut self) -> Option<End> {
        if self.inbox.is_empty() { self.ended.take() } else { None }
    }

    /// Closes the feed, and forgets what it brought and was not mapped: it is fetched again.
    pub(crate) fn drop_feed(&mut self) {
        self.feed = Feed::Closed;
        self.reading = false;
        self.planned = None;
        self.looking = None;
        self.ended = None;
        self.inbox.clear();
        self.inbox_bytes = 0;
        self.behind = true;
    }

    /// The feed could not be opened, or the history not be read, and another try may succeed.
    pub(crate) fn wait(&mut self, now: Moment, asked: Option<Duration>) {
        let chance = self.chance();
        self.unreachable = true;
        self.connecting.wait(now, asked, chance);
    }

    /// The upstream says that it has no such session. True when it is asked again in a while: not when it says so soon after
    /// that once more, though a feed that is asked for piece by piece counts as open in between.
    pub(crate) fn is_asked_again(&mut self, now: Moment) -> bool {
        let first = self.missing.is_none_or(|since| now > since + MISSING_MAX);
        if first {
            self.missing = Some(now);
            self.wait(now, Some(MISSING_WAIT));
        }
        first
    }

    /// The host has no room for it just now.
    pub(crate) fn wait_for_room(&mut self, now: Moment, asked: Option<Duration>) {
        let chance = self.chance();
        self.connecting.wait_for_room(now, asked, chance);
    }

    /// True when it was tried for long enough.
    pub(crate) fn is_exhausted(&self, now: Moment) -> bool {
        self.connecting.is_exhausted(now)
    }

    /// The next try is a first one, and comes at once.
    pub(crate) fn start_anew(&mut self) {
        self.connecting.reset();
    }

    /// The turn has failed: the next one begins with a new feed.
    pub(crate) fn failed(&mut self) {
        self.drop_feed();
        (self.unread, self.missing) = (false, None);
        self.connecting.reset();
        (self.odd, self.odd_ones) = (None, 0);
    }

    /// Takes a page of the look under way. True when it was the last.
    pub(crate) fn take_page(&mut self, page: crate::Page, seen: &crate::dedup::Seen) -> Result<bool, Failure> {
        let Some(looking) = &mut self.looking else { return Ok(false) };
        looking.cursor = looking.look.take(page, seen)?;
        Ok(looking.cursor.is_none())
    }
}
