//! The driver: the contract, put together from the rest.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::{Events, Poll, Token, Waker};
use shardgram_core::backlog::Backlog;
use shardgram_core::datagram::SocketId;
use shardgram_core::driver::{Capabilities, Driver, Sink, Turned, Wait};
use shardgram_core::gathering::Gathering;
use shardgram_core::mailbox::Bell;
use shardgram_core::outbox::Outbox;
use shardgram_core::seldom::Seldom;
use shardgram_core::{Capability, Endpoint, JoinError, Membership, Settings};
use shardgram_sys::{Os, Sharing, SocketOptions, clocks, errno, multicast};

use crate::buffers::Buffers;
use crate::listener::Listener;
use crate::recv::Inbox;
use crate::send::{self, Reports};
use crate::sockets::{Socket, Sockets};
use crate::wake::Fleet;

/// Tells a wake-up from a socket. No socket's place is that high.
const WAKE: Token = Token(usize::MAX);

/// Readiness told by one wait. More than that are told by the next.
const EVENTS: usize = 256;

/// Whether a thread can sleep for some 100 microseconds, to let peers send more. Linux wakes it 50 us late at most
/// (PR_SET_TIMERSLACK in prctl(2)); elsewhere it may sleep for a millisecond or fifteen.
const SLEEPS_BRIEFLY: bool = cfg!(target_os = "linux");

/// Longest wait while a socket rests after its receive failed: so often a failure that lasts is met.
const REST: Duration = Duration::from_millis(100);
/// Shortest rest after the poll itself failed.
const SHORT_REST: Duration = Duration::from_millis(1);

/// Carries the datagrams of one shard over mio.
#[derive(Debug)]
pub struct MioDriver {
    poll: Poll,
    events: Events,
    sockets: Sockets,
    inbox: Inbox,
    buffers: Buffers,
    /// What became of sends and was not handed over yet.
    reports: Reports,
    /// What endpoints are opened with.
    options: SocketOptions,
    /// Whether every shard receives.
    sharing: Sharing,
    /// Whether peers send more than one thing at a time.
    gathering: Gathering,
    /// What it can do beside sending.
    able: Vec<Capability>,
    fleet: Arc<Fleet>,
    /// The last wait told of all sockets that are ready, and not only of as many as it can.
    told_all: bool,
    warned: Seldom,
}

impl MioDriver {
    /// The driver of shard number `shard`.
    ///
    /// `listeners` are in the order of [`shardgram_core::Config::listen`]; of those that only send, another shard hands
    /// on what arrives. Endpoints are opened with `options`, as listeners were. What else is set
    /// comes from `settings`. `bell` is the one of the shard's mailbox, and `fleet` is shared by all shards.
    ///
    /// # Errors
    /// The system's, if a listener cannot be watched. [`ErrorKind::InvalidInput`] if `fleet` has no room
    /// for this shard, [`ErrorKind::AlreadyExists`] if a driver was made for it before.
    pub fn new(
        shard: u16,
        listeners: Vec<Listener>,
        options: &SocketOptions,
        settings: &Settings,
        bell: &Bell,
        fleet: Arc<Fleet>,
    ) -> io::Result<Self> {
        let poll = Poll::new()?;
        let sharing = crate::listener::sharing(&listeners);
        let mut able = match crate::listener::have_control(&listeners) {
            true => Os::HERE.able(sharing),
            false => Os::HERE.able_without_control(sharing),
        };
        if !crate::listener::are_steered(&listeners) {
            // A sandbox may refuse the program, and then the kernel chooses among the listeners.
            able.retain(|capability| *capability != Capability::SteeredListeners);
        }
        let sockets = Sockets::new(poll.registry(), listeners)?;
        fleet.join(shard, Waker::new(poll.registry(), WAKE)?)?;
        let others = Arc::clone(&fleet);
        bell.connect(Box::new(move || others.wake(shard)));
        Ok(Self {
            poll,
            events: Events::with_capacity(EVENTS),
            sockets,
            inbox: Inbox::new(fleet.lister()),
            buffers: Buffers::default(),
            reports: Reports::default(),
            options: options.clone(),
            sharing,
            gathering: Gathering::new(settings.gather_time().filter(|_| SLEEPS_BRIEFLY)),
            able,
            fleet,
            told_all: true,
            warned: Seldom::default(),
        })
    }

    /// How long the wait may be. mio rounds it up to what the system counts in (milliseconds with epoll
    /// and on Windows), so a deadline never makes the loop turn before it has come.
    fn timeout(&self, wait: Wait) -> Option<Duration> {
        // What failed must not wait for something else to happen before it is told.
        let to_tell = !self.reports.failures.is_empty() || self.has_more();
        let deadline = match wait {
            Wait::Rest(until) => Some(until.saturating_duration_since(Instant::now())),
            Wait::Until(_) | Wait::Poll if to_tell => return Some(Duration::ZERO),
            Wait::Poll => return Some(Duration::ZERO),
            Wait::Until(deadline) => deadline.map(|at| at.saturating_duration_since(Instant::now())),
        };
        let rest = self.sockets.any_resting().then_some(REST);
        [deadline, rest].into_iter().flatten().min()
    }

    /// A shard without listeners has others in their places.
    fn open_socket(&self, id: SocketId) -> Result<&Socket, JoinError> {
        self.sockets.get(id).filter(|socket| socket.id == id).ok_or(JoinError::NoSuchSocket)
    }

    fn wait(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        let sleeps = timeout != Some(Duration::ZERO);
        if sleeps
            && let Some(patience) = self.gathering.wait()
            && timeout.is_none_or(|timeout| timeout > patience)
        {
            // epoll_wait(2) counts in milliseconds. What comes meanwhile is found by the poll, wake-ups too.
            std::thread::sleep(patience);
        }
        match self.poll.poll(&mut self.events, timeout) {
            Ok(()) => {}
            // EINTR, epoll_wait(2): "interrupted by a signal handler": as good as a wake-up. There are no
            // events then.
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => self.poll_failed(error, timeout)?,
        }
        let mut told = 0;
        for event in &self.events {
            told += 1;
            // Readable or an error, which a receive will tell. A wake-up has no socket.
            if event.token() == WAKE {
                continue;
            }
            if event.is_writable() {
                self.sockets.writable(self.poll.registry(), event.token());
            }
            self.sockets.readable(event.token());
        }
        self.told_all = told < EVENTS;
        self.sockets.end_rest();
        Ok(())
    }
}

impl MioDriver {
    /// The poll failed. What is no fault of its own passes, and until then the thread rests.
    #[cold]
    fn poll_failed(&mut self, error: io::Error, timeout: Option<Duration>) -> io::Result<()> {
        // The poll itself is broken, which ends the shard: its descriptor is closed or another's, or the arguments are
        // wrong, which this program makes.
        if let Some(errno::EBADF | errno::EFAULT | errno::EINVAL) = error.raw_os_error() {
            return Err(error);
        }
        // ENOMEM (kevent(2)), what Windows says of its resources, and what nobody documents.
        if let Some(held_back) = self.warned.due(Instant::now()) {
            tracing::warn!(%error, held_back, "a poll failed: it is tried again after a rest");
        }
        std::thread::sleep(timeout.map_or(REST, |timeout| timeout.clamp(SHORT_REST, REST)));
        Ok(())
    }
}

impl Driver for MioDriver {
    fn capabilities(&self) -> Capabilities {
        let copies = multicast::EACH_HAS_A_COPY && self.sharing == Sharing::PerShard;
        Capabilities::new(send::LIMITS).with(&self.able).with_copies(copies)
    }

    fn now(&self) -> Instant {
        Instant::now()
    }

    fn suspended(&self) -> Duration {
        clocks::suspended()
    }

    fn open(&mut self, socket: SocketId, endpoint: &Endpoint) -> Result<SocketAddr, i32> {
        self.sockets.open(self.poll.registry(), socket, endpoint, &self.options)
    }

    fn close(&mut self, socket: SocketId) {
        self.sockets.close(self.poll.registry(), socket);
        self.inbox.forget(socket, &mut self.buffers);
    }

    fn join(&mut self, socket: SocketId, membership: &Membership) -> Result<(), JoinError> {
        multicast::join(&self.open_socket(socket)?.io, membership)
    }

    fn leave(&mut self, socket: SocketId, membership: &Membership) -> Result<(), JoinError> {
        multicast::leave(&self.open_socket(socket)?.io, membership)
    }

    fn wake(&mut self, shard: u16) {
        self.fleet.wake(shard);
    }

    fn turn(&mut self, outbox: &Outbox, backlog: &mut Backlog, wait: Wait) -> io::Result<Turned> {
        let waited = backlog.datagrams();
        if waited > 0 {
            send::flush(backlog, &mut self.sockets, &mut self.reports);
        }
        // Where there is room again handlers may want to know.
        let wait = if backlog.datagrams() < waited { Wait::Poll } else { wait };
        send::carry_out(outbox, backlog, &mut self.sockets, &self.buffers, &mut self.reports);
        self.buffers.sent();
        self.sockets.watch_full(self.poll.registry());
        self.wait(self.timeout(wait))?;
        Ok(Turned::Awake)
    }

    fn receive(&mut self, budget: usize, each: usize, sink: &mut impl Sink) -> usize {
        for failure in self.reports.failures.drain(..) {
            sink.send_failed(failure);
        }
        for (peer, segment) in self.reports.refusals.drain(..) {
            sink.train_refused(peer, segment);
        }
        let Self { inbox, sockets, buffers, gathering, .. } = self;
        sockets.begin(each);
        inbox.receive(sockets, buffers, gathering, budget, sink)
    }

    fn has_more(&self) -> bool {
        self.sockets.any_ready() || !self.inbox.is_empty()
    }

    fn is_caught_up(&self) -> bool {
        self.told_all && !self.has_more()
    }

    fn kernel_dropped(&mut self) -> u64 {
        self.sockets.dropped()
    }
}
