//! A callback that stalls, for as long as the test wants.

use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex};

use shardgram::{Accept, Context, Datagram, Handler, PeerId};

use super::PATIENCE;

/// What a datagram has to be for the callback to stall.
pub const STALL: &[u8] = b"stall";

#[derive(Default)]
struct State {
    /// How many callbacks have come to the gate, and how many may pass.
    came: u32,
    may_pass: u32,
    thread: Option<PathBuf>,
}

/// Holds up the callbacks that come to it.
#[derive(Clone, Default)]
pub struct Gate(Arc<(Mutex<State>, Condvar)>);

impl Gate {
    /// Waits, in a callback, until the gate is opened.
    pub fn pass(&self) {
        let (state, changed) = &*self.0;
        let mut state = state.lock().unwrap();
        state.came += 1;
        let mine = state.came;
        // proc(5): where the calling thread is found.
        state.thread = std::fs::read_link("/proc/thread-self").ok();
        changed.notify_all();
        drop(changed.wait_while(state, |state| state.may_pass < mine).unwrap());
    }

    /// Waits until a callback stands at the gate.
    pub fn is_stalled(&self) {
        let (state, changed) = &*self.0;
        let state = state.lock().unwrap();
        let stands = |state: &mut State| state.came == state.may_pass;
        let (state, result) = changed.wait_timeout_while(state, PATIENCE, stands).unwrap();
        drop(state);
        assert!(!result.timed_out(), "no callback came to the gate");
    }

    /// Lets the callback go on that stands there.
    pub fn open(&self) {
        let (state, changed) = &*self.0;
        state.lock().unwrap().may_pass += 1;
        changed.notify_all();
    }

    /// Nanoseconds the thread has run whose callback came last, and how often it was given a core (proc(5),
    /// `schedstat`).
    pub fn schedule(&self) -> (u64, u64) {
        let thread = self.0.0.lock().unwrap().thread.clone().expect("a callback came");
        let text = std::fs::read_to_string(PathBuf::from("/proc").join(thread).join("schedstat")).unwrap();
        let mut numbers = text.split_whitespace().map(|n| n.parse().unwrap());
        (numbers.next().unwrap(), numbers.nth(1).unwrap())
    }
}

/// Sends everything back, in place; at [`STALL`] it stands at the gate first.
pub struct Staller(pub Gate);

impl Handler for Staller {
    type Peer = ();
    type Timer = ();
    type Message = ();

    fn accept(&mut self, _: &mut Context<'_, Self>, _: &mut Datagram<'_>) -> Accept<()> {
        Accept::Peer(())
    }

    fn on_datagram(&mut self, cx: &mut Context<'_, Self>, _: PeerId, datagram: Datagram<'_>) {
        if &datagram[..] == STALL {
            self.0.pass();
        }
        let len = datagram.len();
        cx.io.reply(datagram, len).expect("room for a reply");
    }
}
