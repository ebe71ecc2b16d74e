//! Many peers that vanish at once, of each of which the others are told: what befell them is told as there is room for
//! that in the outbox, each once, and no send is refused for the others.

use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use shardgram_core::backlog::Backlog;
use shardgram_core::datagram::SocketId;
use shardgram_core::driver::{Arrival, Capabilities, Driver, SendFailure, SendFault, Sink, Turned, Wait};
use shardgram_core::mailbox::mailboxes;
use shardgram_core::outbox::{Outbox, TrainLimits};
use shardgram_core::shard_loop::{Secrets, Setup, ShardLoop, Turn};
use shardgram_core::{
    Accept, Config, Context, Datagram, Endpoint, Handler, Meta, PeerError, PeerId, ShardInfo,
};

const PEERS: u16 = 50;

/// A network in which one datagram comes from each peer, and then all of them refuse what was sent to them, once.
#[derive(Default)]
struct Vanishing {
    came: u16,
    failed: Vec<SendFailure>,
    refused: bool,
    sent: usize,
}

impl Driver for Vanishing {
    fn capabilities(&self) -> Capabilities {
        Capabilities::new(TrainLimits::SINGLE)
    }

    fn now(&self) -> Instant {
        Instant::now()
    }

    fn open(&mut self, _: SocketId, _: &Endpoint) -> Result<SocketAddr, i32> {
        Err(95)
    }

    fn close(&mut self, _: SocketId) {}

    fn wake(&mut self, _: u16) {}

    fn turn(&mut self, outbox: &Outbox, _: &mut Backlog, wait: Wait) -> io::Result<Turned> {
        self.sent += outbox.datagrams();
        if outbox.datagrams() == usize::from(PEERS) && !self.refused {
            self.refused = true;
            let refused = SendFault::Peer(PeerError::Refused);
            let fail = |peer| SendFailure { peer, datagrams: 1, fault: refused };
            self.failed = outbox.trains().iter().map(|train| fail(train.peer)).collect();
        }
        let idle = self.failed.is_empty() && self.came == PEERS && wait != Wait::Poll;
        Ok(if idle { Turned::Asleep } else { Turned::Awake })
    }

    fn receive(&mut self, budget: usize, _: usize, sink: &mut impl Sink) -> usize {
        self.failed.drain(..).for_each(|failure| sink.send_failed(failure));
        let count = budget.min(usize::from(PEERS - self.came));
        for handed_over in 1..=count {
            self.came += 1;
            let (socket, meta) = (SocketId::listener(0), Meta::default());
            let remote = ([192, 0, 2, 7], 4_000 + self.came).into();
            let bytes = &mut [0; 10][..];
            let fate = sink.datagram(Arrival {
                socket,
                remote,
                local: None,
                meta,
                segment: 0,
                bytes,
                buffer: 0,
                start: 0,
            });
            assert!(!fate.stop || handed_over == count, "a single reply leaves room");
        }
        count
    }

    fn has_more(&self) -> bool {
        self.came < PEERS || !self.failed.is_empty()
    }

    fn kernel_dropped(&mut self) -> u64 {
        0
    }
}

/// Answers, and tells everybody of a peer that something befell.
struct Telling(Rc<RefCell<Vec<PeerId>>>);

impl Handler for Telling {
    type Peer = ();
    type Timer = ();
    type Message = ();

    fn accept(&mut self, _: &mut Context<'_, Self>, _: &mut Datagram<'_>) -> Accept<()> {
        Accept::Peer(())
    }

    fn on_datagram(&mut self, cx: &mut Context<'_, Self>, from: PeerId, _: Datagram<'_>) {
        cx.io.send(from, b"hello").expect("room");
    }

    fn on_peer_error(&mut self, cx: &mut Context<'_, Self>, gone: PeerId, _: PeerError) {
        self.0.borrow_mut().push(gone);
        for (peer, ()) in cx.peers.iter().filter(|(peer, ())| *peer != gone) {
            cx.io.send(peer, b"it is gone").expect("room");
        }
    }
}

#[test]
fn each_is_told_of_when_there_is_room() {
    let (postboxes, mut mailboxes) = mailboxes(1, 16);
    let listeners: Arc<[SocketAddr]> = Arc::new([([192, 0, 2, 1], 9_000).into()]);
    let setup = Setup {
        info: ShardInfo::new(0, 1),
        listeners,
        mailbox: mailboxes.remove(0),
        postboxes,
        control: Arc::default(),
        stats: Arc::default(),
        secrets: Secrets { table: (1, 2), cookies: (3, 4) },
        resolver: None,
        own: Arc::default(),
        start: Instant::now(),
    };
    let stats = Arc::clone(&setup.stats);
    let told = Rc::<RefCell<Vec<PeerId>>>::default();
    let noted = Rc::clone(&told);
    // Room for what three of them cause, and all datagrams come in one turn.
    let config = Config::new().outbox_datagrams(160).turn_time_us(1_000_000).idle_timeout(None);
    let make = move |_| Telling(Rc::clone(&noted));
    let mut shard = ShardLoop::new(Vanishing::default(), setup, &config, make).expect("a shard");
    let mut turns = 0;
    while let Turn::Ran = shard.turn() {
        turns += 1;
        assert!(turns < 1_000, "it comes to rest");
    }
    assert!(shard.driver().refused, "all vanished at once");
    let told = told.borrow();
    let mut once = told.to_vec();
    once.sort_unstable();
    once.dedup();
    assert_eq!((told.len(), once.len()), (usize::from(PEERS), usize::from(PEERS)));
    let peers = usize::from(PEERS);
    assert_eq!(shard.driver().sent, peers + peers * (peers - 1));
    let stats = stats.snapshot();
    assert_eq!((stats.send_refused_full, stats.send_failed_refused), (0, u64::from(PEERS)), "{stats:?}");
}
