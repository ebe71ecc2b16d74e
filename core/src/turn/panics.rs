//! What follows from a handler's panic: who is refused, how long the shard pauses, what the log says, and whether the
//! shard ends.
//!
//! Sources are refused for what a remote party brought about, and then the shard never pauses: one datagram now and
//! then would stop it again and again. It pauses only where there is no source to refuse.

use std::any::Any;
use std::collections::VecDeque;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use crate::peers::refused_sources::{Refusal, RefusedSources};
use crate::time::seldom::Seldom;
use crate::types::datagram::Path;
use crate::types::ids::PeerId;

/// The first pause after a panic that nobody's datagram brought about. Each further one is twice as long.
pub(crate) const FIRST_PAUSE: Duration = Duration::from_millis(10);
/// The longest.
pub(crate) const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// Without another one for so long, pauses begin anew.
const PAUSES_FORGOTTEN: Duration = Duration::from_secs(60);
/// What a panic said is shown so far.
const LONGEST_MESSAGE: usize = 300;

/// What of the user's was running.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Callback {
    Factory,
    Start,
    Accept,
    Datagram,
    Train,
    Timer,
    Message,
    Writable,
    Attempt,
    PeerError,
    GroupError,
    Closed,
    TurnEnd,
    Drain,
}

const CALLBACKS: usize = Callback::Drain as usize + 1;

impl Callback {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Factory => "the factory",
            Self::Start => "on_start",
            Self::Accept => "accept",
            Self::Datagram => "on_datagram",
            Self::Train => "on_train",
            Self::Timer => "on_timer",
            Self::Message => "on_message",
            Self::Writable => "on_writable",
            Self::Attempt => "on_attempt",
            Self::PeerError => "on_peer_error",
            Self::GroupError => "on_group_error",
            Self::Closed => "on_closed",
            Self::TurnEnd => "on_turn_end",
            Self::Drain => "on_drain",
        }
    }
}

/// What brought a callback about. Made where it is called and looked at after a panic only, so that it costs a call
/// nothing.
#[derive(Clone, Copy)]
pub(crate) enum Cause<'a> {
    /// A datagram that came along this path, of a peer or of a stranger.
    Datagram(Callback, Option<PeerId>, &'a Path),
    /// A peer, or what befell it.
    Peer(Callback, PeerId),
    /// A peer that is gone, and the path it was answered along, if that is known.
    Gone(Option<Path>),
    /// The shard, about a peer that its handler made.
    OwnPeer(Callback, PeerId),
    /// The shard.
    Own(Callback),
}

impl Cause<'_> {
    pub(crate) fn callback(&self) -> Callback {
        match *self {
            Self::Datagram(callback, ..)
            | Self::Peer(callback, _)
            | Self::OwnPeer(callback, _)
            | Self::Own(callback) => callback,
            Self::Gone(_) => Callback::Closed,
        }
    }

    /// The peer that is to be closed for it.
    pub(crate) fn peer(&self) -> Option<PeerId> {
        match *self {
            Self::Datagram(_, peer, _) => peer,
            Self::Peer(_, peer) | Self::OwnPeer(_, peer) => Some(peer),
            Self::Gone(_) | Self::Own(_) => None,
        }
    }

    /// Whether nobody outside has brought it about, so that it is the shard that has to hold back.
    pub(crate) fn is_own(&self) -> bool {
        matches!(self, Self::Own(_) | Self::OwnPeer(..))
    }
}

/// What a shard has to do before its handler, or another one, is called again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Next {
    /// Another handler takes over at once.
    Replace,
    /// The shard pauses; then another handler takes over, or the same goes on.
    Pause(Duration),
    /// It ends: there were this many panics within a minute.
    End(u32),
}

pub(crate) struct Panics {
    shard: u16,
    pub(crate) sources: RefusedSources,
    /// Panics in a minute that the shard survives, if not all.
    most: Option<u32>,
    recent: VecDeque<Instant>,
    said: [Seldom; CALLBACKS],
    pauses: u32,
    last_pause: Option<Instant>,
    /// What follows from the panic that was last, while no callback may run.
    pub(crate) next: Next,
    /// Where that was.
    pub(crate) last: Callback,
}

impl Panics {
    pub(crate) fn new(shard: u16, key: (u64, u64), most: Option<u32>) -> Self {
        Self {
            shard,
            sources: RefusedSources::new(key),
            most,
            recent: VecDeque::new(),
            said: [Seldom::default(); CALLBACKS],
            pauses: 0,
            last_pause: None,
            next: Next::Replace,
            last: Callback::Factory,
        }
    }

    /// Decides what follows. `path` is where it came from, if it came from somewhere.
    pub(crate) fn note(
        &mut self,
        cause: &Cause<'_>,
        path: Option<&Path>,
        proven: bool,
        now: Instant,
        payload: Box<dyn Any + Send>,
    ) -> Next {
        self.last = cause.callback();
        let refusal = path.filter(|_| !cause.is_own()).map(|path| self.sources.blame(path, proven, now));
        self.next = match self.too_many(now) {
            Some(panics) => Next::End(panics),
            None if cause.is_own() => Next::Pause(self.pause(now)),
            None => Next::Replace,
        };
        self.report(path.map(|path| path.remote), refusal, now, &payload);
        drop_payload(payload);
        self.next
    }

    /// A handler that never began, and with which no shard begins.
    pub(crate) fn not_started(&mut self, callback: Callback, now: Instant, payload: Box<dyn Any + Send>) {
        self.last = callback;
        self.next = Next::End(1);
        self.report(None, None, now, &payload);
        drop_payload(payload);
    }

    /// How many there were within a minute, if that is more than may be.
    fn too_many(&mut self, now: Instant) -> Option<u32> {
        let most = self.most?;
        let in_time = |at: &Instant| now.saturating_duration_since(*at) < Duration::from_secs(60);
        self.recent.retain(in_time);
        self.recent.push_back(now);
        let panics = self.recent.len() as u32;
        (panics > most).then_some(panics)
    }

    fn pause(&mut self, now: Instant) -> Duration {
        if self.last_pause.is_some_and(|last| now.saturating_duration_since(last) >= PAUSES_FORGOTTEN) {
            self.pauses = 0;
        }
        let pause = FIRST_PAUSE.saturating_mul(1 << self.pauses.min(16)).min(LONGEST_PAUSE);
        self.pauses = self.pauses.saturating_add(1);
        self.last_pause = Some(now + pause);
        pause
    }

    fn report(
        &mut self,
        source: Option<SocketAddr>,
        refusal: Option<Refusal>,
        now: Instant,
        payload: &Box<dyn Any + Send>,
    ) {
        let Some(unsaid) = self.said[self.last as usize].due(now) else { return };
        let (shard, place) = (self.shard, self.last.name());
        let source = source.map(|source| format!(", source {source}")).unwrap_or_default();
        let mut then = String::new();
        if let Some(Refusal { tuple, address, prefix }) = refusal {
            let _ = write!(then, "; that source is refused for {tuple:?}");
            for (what, time) in [("address", address), ("prefix", prefix)] {
                let _ = time.map(|time| write!(then, ", its {what} for {time:?}"));
            }
        }
        if let Next::Pause(time) = self.next {
            let _ = write!(then, "; the shard pauses for {time:?}");
        }
        if unsaid > 0 {
            let _ = write!(then, "; {unsaid} more panics there were not logged");
        }
        let message = describe(payload.as_ref());
        tracing::error!("shard {shard}: the handler panicked in {place}{source}: {message}{then}");
    }

    /// The last word of a shard that ends for it.
    pub(crate) fn report_end(&self, panics: u32) {
        let (shard, place, most) = (self.shard, self.last.name(), self.most.unwrap_or(0));
        tracing::error!(
            "shard {shard} ends: {panics} panics within a minute, the last in {place}, and {most} may be \
             (max_restarts_per_minute)"
        );
    }
}

/// What a panic said, in one line: a part of it may be what a remote party sent.
fn describe(payload: &(dyn Any + Send)) -> String {
    let text = payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message");
    let shown = |c: char| {
        let control = c.is_control();
        c.escape_default().filter(move |_| control).chain(std::iter::once(c).filter(move |_| !control))
    };
    text.chars().take(LONGEST_MESSAGE).flat_map(shown).collect()
}

/// Drops what is the user's; whether that went well. What its drop panics with is logged.
pub(crate) fn drop_guarded<T>(value: T) {
    guarded(move || drop(value));
}

/// Runs what may drop what is the user's; a panic in it is reported and leaves `None`.
pub(crate) fn guarded<R>(what: impl FnOnce() -> R) -> Option<R> {
    match catch_unwind(AssertUnwindSafe(what)) {
        Ok(value) => Some(value),
        Err(payload) => {
            let message = describe(payload.as_ref());
            tracing::error!("something of a handler panicked when it was dropped: {message}");
            drop_payload(payload);
            None
        }
    }
}

/// A payload may panic when dropped, with another one; those are fewer still, so losing its memory is the lesser evil.
fn drop_payload(payload: Box<dyn Any + Send>) {
    if let Err(another) = catch_unwind(AssertUnwindSafe(move || drop(payload))) {
        std::mem::forget(another);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_up_to_a_bound_and_begin_anew() {
        let mut panics = Panics::new(0, (1, 2), None);
        let mut now = Instant::now();
        let mut pause = |panics: &mut Panics| {
            let Next::Pause(time) =
                panics.note(&Cause::Own(Callback::Timer), None, false, now, Box::new("so"))
            else {
                panic!("a pause")
            };
            now += time;
            time.as_millis()
        };
        let all: Vec<_> = (0..10).map(|_| pause(&mut panics)).collect();
        assert_eq!(all, [10, 20, 40, 80, 160, 320, 640, 1_000, 1_000, 1_000]);
        now += PAUSES_FORGOTTEN;
        let Next::Pause(time) = panics.note(&Cause::Own(Callback::Timer), None, false, now, Box::new("so"))
        else {
            panic!("a pause")
        };
        assert_eq!(time, FIRST_PAUSE);
    }

    #[test]
    fn only_a_limit_that_was_asked_for_ends_a_shard() {
        let now = Instant::now();
        let panics = |most: Option<u32>, count: u32| {
            let mut panics = Panics::new(0, (1, 2), most);
            let next = |_| panics.note(&Cause::Gone(None), None, false, now, Box::new("so"));
            (0..count).map(next).collect::<Vec<_>>()
        };
        assert!(panics(None, 1_000).iter().all(|next| *next == Next::Replace));
        assert_eq!(panics(Some(0), 1), [Next::End(1)]);
        assert_eq!(panics(Some(2), 3), [Next::Replace, Next::Replace, Next::End(3)]);
    }

    #[test]
    fn what_a_panic_says_is_one_line() {
        assert_eq!(describe(&"two\nlines, \"one\""), "two\\nlines, \"one\"");
        assert_eq!(describe(&1_u8), "no message");
        assert_eq!(describe(&"x".repeat(1_000)).len(), LONGEST_MESSAGE);
    }
}
