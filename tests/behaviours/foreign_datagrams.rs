//! A datagram that comes by a peer's own socket and is from somebody else goes where it belongs: it is
//! delivered to its own peer, none is lost, and it is counted.
//!
//! For real: in the listeners' port group the kernel gives a socket that is bound and not yet connected what
//! others send at that moment. Outside of that group it does not.

use std::net::SocketAddr;
use std::sync::mpsc;

use shardgram::{Accept, AcceptChoice, Backend, Config, Context, Datagram, Handler, Origin, PeerId, Server};
use shardgram::{Snapshot, StartError};

use crate::common::lab::{Flood, LONG_PATIENCE, alone, loopback_of_both, sockets_at, until_accounted};
use crate::common::{Bed, PATIENCE, Served, loopback};

const SOURCES: usize = 32;
/// How many peers come and go beside them.
const MOVERS: usize = 64;

/// What a datagram says: the port it is sent from, and whether its peer is to be connected, which is how it
/// begins.
const MOVER: u8 = b'm';
const SOURCE: u8 = b's';

/// Connects those that say so, and closes them a little later; sees to it that everybody gets his own.
#[derive(Default)]
struct Sorter {
    wrong: u64,
}

impl Handler for Sorter {
    /// Its address, and datagrams until it is closed.
    type Peer = (SocketAddr, u32);
    type Timer = ();
    type Message = mpsc::Sender<u64>;

    fn accept(&mut self, _: &mut Context<'_, Self>, first: &mut Datagram<'_>) -> Accept<Self::Peer> {
        let remote = first.path().remote;
        if first[0] == MOVER { Accept::Connect((remote, 8)) } else { Accept::Peer((remote, u32::MAX)) }
    }

    fn on_datagram(&mut self, cx: &mut Context<'_, Self>, from: PeerId, datagram: Datagram<'_>) {
        let (remote, left) = cx.peers.get_mut(from).expect("it is there");
        let says = u16::from_be_bytes([datagram[1], datagram[2]]);
        self.wrong += u64::from(*remote != datagram.path().remote || remote.port() != says);
        *left -= 1;
        if *left == 0 {
            cx.io.close(from);
        }
    }

    fn on_message(&mut self, _: &mut Context<'_, Self>, _: Origin, tell: mpsc::Sender<u64>) {
        tell.send(self.wrong).expect("the test waits");
    }
}

fn wrong(bed: &mut Bed, server: &Served<mpsc::Sender<u64>>, shards: u16) -> u64 {
    let (tell, told) = mpsc::channel();
    (0..shards).for_each(|shard| bed.tell(server, shard, tell.clone()));
    (0..shards).map(|_| told.recv_timeout(PATIENCE).expect("the shard tells")).sum()
}

/// Peers are connected and closed all the time, while others, from the same address, send as fast as they can.
fn storm(config: Config, enough: impl Fn(&Snapshot) -> bool) -> Option<Snapshot> {
    let _alone = alone();
    let mut bed = Bed::uring()?;
    let server = bed.serve(config.shards(2), |_| Sorter::default());
    let at = bed.address(&server);
    let says = |kind| {
        move |port: u16, _| {
            let [high, low] = port.to_be_bytes();
            [kind, high, low]
        }
    };
    let floods = [(SOURCES, SOURCE), (MOVERS, MOVER)]
        .map(|(count, kind)| Flood::start(sockets_at(at.ip(), count), at, says(kind)));
    bed.until_within(LONG_PATIENCE, "enough of it", |bed| enough(&bed.stats(&server)));
    let sent = floods.into_iter().map(Flood::stop).sum();
    until_accounted(&mut bed, &server, sent);
    assert_eq!(wrong(&mut bed, &server, 2), 0, "nothing is given to somebody else");
    let stats = bed.drain(server);
    println!("{} accepts, {} redispatched", stats.promoted, stats.redispatched);
    assert_eq!(stats.received + stats.kernel_dropped, sent, "{stats:?}");
    assert_eq!((stats.dropped_closed, stats.dropped_foreign, stats.dropped_malformed), (0, 0, 0));
    Some(stats)
}

#[test]
fn in_the_listeners_group_they_go_where_they_belong() {
    let [v4, v6] = loopback_of_both().map(|config| config.accept(AcceptChoice::SameGroup));
    storm(v4, |stats| stats.redispatched >= 100 && stats.promoted >= 1_000);
    // Of IPv6 sockets in one group the kernel finds those first that were bound first: there are few.
    storm(v6, |stats| stats.promoted >= 1_000);
}

#[test]
fn outside_of_it_there_are_none() {
    for config in loopback_of_both() {
        if let Some(reason) = no_side_group(&config) {
            return crate::common::skip::record(&reason);
        }
        let config = config.accept(AcceptChoice::SideGroup);
        let Some(stats) = storm(config, |stats| stats.promoted >= 3_000) else { return };
        assert_eq!(stats.redispatched, 0);
    }
}

/// Why sockets outside the listeners' group cannot be had here, if they cannot.
fn no_side_group(config: &Config) -> Option<String> {
    match Server::bind(config.clone().backend(Backend::Uring).accept(AcceptChoice::SideGroup)) {
        Err(StartError::AcceptRefused { reason, .. }) => Some(reason),
        _ => None,
    }
}

#[test]
fn the_way_that_was_chosen_is_in_the_ready_line() {
    if Bed::uring().is_none() {
        return;
    }
    let ready = |accept| {
        let server = Server::bind(loopback().backend(Backend::Uring).accept(accept));
        server.map(|server| server.ready_line())
    };
    let line = ready(AcceptChoice::SameGroup).expect("it can always be had");
    assert!(line.ends_with(" tier=listener accept=same-group"), "{line}");
    match ready(AcceptChoice::SideGroup) {
        Ok(line) => assert!(line.ends_with(" tier=listener accept=side-group"), "{line}"),
        Err(error) => assert!(error.to_string().contains("accept=side-group was asked for"), "{error}"),
    }
}

#[test]
fn a_driver_without_such_sockets_refuses_the_choice() {
    let config = loopback().backend(Backend::Mio).accept(AcceptChoice::SameGroup);
    let error = Server::bind(config).expect_err("mio has none");
    assert!(matches!(error, StartError::AcceptRefused { .. }), "{error}");
    assert!(error.to_string().contains("the mio driver"), "{error}");
}
