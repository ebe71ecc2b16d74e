//! A host is dialed by its name: looked up off the shards, its addresses tried in turn until one answers, and looked
//! up again when it is dialed again.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use crate::common::caller::{Call, HELLO, Seen};
use crate::common::{Bed, Peer};
use shardgram::{
    AttemptFault, CloseReason, Config, Dial, DialError, Endpoint, Interface, LookupError, PeerError, PeerId,
    SendError, Via,
};

const NAME: &str = "game.test";
/// How long each address is given where one that is silent comes before one that answers, which has to be in time.
const SHORT: Duration = Duration::from_secs(1);
/// How long where none is to answer.
const TINY: Duration = Duration::from_millis(50);
/// How long where nothing is waited for.
const LONG: Duration = Duration::from_secs(30);
const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const HERE_V6: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);

/// Addresses of this host, or of nobody, at which nobody answers.
fn dead(n: u8) -> IpAddr {
    [127, 0, 9, n].into()
}

fn dial(at: SocketAddr) -> Dial {
    Dial::to(NAME, at.port()).unwrap().try_for(SHORT)
}

/// Who is at 127.0.0.1, and where exactly.
fn friend(call: &mut Call) -> (Peer, SocketAddr) {
    let friend = call.bed.peer((HERE, 0).into());
    let at = friend.address();
    (friend, at)
}

fn is_greeted(call: &mut Call, friend: &Peer) -> SocketAddr {
    let (from, bytes) = call.bed.receive(friend);
    assert_eq!(bytes, HELLO);
    from
}

/// The silence that ended the last of so many attempts.
fn silence(addresses: u8) -> PeerError {
    PeerError::NoAnswer { addresses, last: AttemptFault::Silence }
}

fn at(ip: IpAddr, like: SocketAddr) -> SocketAddr {
    SocketAddr::new(ip, like.port())
}

fn the_next_address_is_tried_where_one_is_silent(bed: Bed) {
    let mut call = Call::start(bed, Config::new());
    let (friend, here) = friend(&mut call);
    call.name(NAME, &[dead(1), HERE, dead(2)]);
    let peer = call.dial(dial(here));
    for ip in [dead(1), HERE] {
        call.tries(peer, at(ip, here));
    }
    let from = is_greeted(&mut call, &friend);
    call.bed.send(&friend, from, b"welcome");
    let path = call.hears(peer, b"welcome");
    assert_eq!(path.remote, here);
    // Now it is settled: nothing else is tried, nothing given up, and it goes on as any peer.
    call.bed.pass(SHORT + TINY);
    call.run(0, move |cx| cx.io.send(peer, b"thanks")).unwrap();
    assert_eq!(call.bed.receive(&friend), (from, b"thanks".to_vec()));
    assert!(call.seen.try_recv().is_err());
    let stats = call.drain();
    assert_eq!((stats.lookups, stats.lookups_failed, stats.attempts, stats.attempts_failed), (1, 0, 2, 1));
    assert_eq!((stats.peers_opened, stats.delivered), (1, 1));
}

fn families_take_turns_from_endpoints_of_their_own(bed: Bed) {
    let mut call = Call::start(bed, Config::new().max_endpoints(2));
    let six = call.bed.peer((HERE_V6, 0).into());
    let here = six.address();
    // That of the other family comes after the first of the one, and before its others.
    call.name(NAME, &[dead(1), dead(2), dead(3), HERE_V6]);
    let peer = call.dial(dial(here));
    call.tries(peer, at(dead(1), here));
    call.tries(peer, here);
    let from = is_greeted(&mut call, &six);
    assert!(from.is_ipv6());
    call.bed.send(&six, from, b"welcome");
    call.hears(peer, b"welcome");
    // The endpoint of the other family is closed: there is room for another.
    call.run(0, |cx| cx.io.endpoint(Endpoint::bound((HERE, 0).into())).expect("room for one more"));
    // And its own is closed with the peer.
    call.run(0, move |cx| cx.io.close(peer));
    assert!(matches!(call.next(), Seen::Closed { .. }));
    let ask = |call: &mut Call| call.run(0, |cx| cx.io.endpoint(Endpoint::bound((HERE, 0).into())).is_ok());
    assert_eq!([ask(&mut call), ask(&mut call)], [true, false]);
    call.drain();
}

fn a_host_of_which_no_address_answers_is_given_up_and_dialed_again(bed: Bed) {
    let mut call = Call::start(bed, Config::new());
    let (friend, here) = friend(&mut call);
    call.name(NAME, &[dead(1), dead(2)]);
    let peer = call.dial(dial(here));
    call.tries(peer, at(dead(1), here));
    call.tries(peer, at(dead(2), here));
    call.meets(peer, silence(2));
    // It stays as it is, with the last address.
    let path = call.run(0, move |cx| cx.io.path(peer)).expect("it has one");
    assert_eq!(path.remote, at(dead(2), here));
    // The name has another address now.
    call.name(NAME, &[HERE]);
    call.run(0, move |cx| cx.io.redial(peer)).unwrap();
    call.tries(peer, here);
    let from = is_greeted(&mut call, &friend);
    call.bed.send(&friend, from, b"welcome");
    call.hears(peer, b"welcome");
    // Also one that had answered is dialed again; it is the same peer all along.
    call.run(0, move |cx| cx.io.redial(peer)).unwrap();
    call.tries(peer, here);
    is_greeted(&mut call, &friend);
    let stats = call.drain();
    assert_eq!((stats.lookups, stats.attempts, stats.attempts_failed, stats.peers_opened), (3, 4, 2, 1));
}

fn a_name_without_addresses_is_an_error(bed: Bed) {
    let mut call = Call::start(bed, Config::new());
    let (friend, here) = friend(&mut call);
    let nowhere = call.dial(Dial::to("nowhere.test", 9).unwrap());
    call.meets(nowhere, PeerError::Unresolved { why: LookupError::NotFound });
    for (why, addresses) in [
        (LookupError::Temporary, Err(LookupError::Temporary)),
        (LookupError::NoAddress, Ok(vec![])),
        // Nobody in particular.
        (LookupError::NoAddress, Ok(vec![Ipv4Addr::UNSPECIFIED.into(), [224, 0, 0, 1].into()])),
    ] {
        call.names.set(&mut call.bed, NAME, addresses, Duration::ZERO);
        let peer = call.dial(dial(here));
        call.meets(peer, PeerError::Unresolved { why });
        // Nothing can be sent to it, and it has no path.
        let (sent, path) = call.run(0, move |cx| (cx.io.send(peer, b"lost"), cx.io.path(peer)));
        assert_eq!((sent, path), (Err(SendError::NoAddress), None));
        call.run(0, move |cx| assert_eq!(cx.io.slot(peer, 8).err(), Some(SendError::NoAddress)));
    }
    // From an IPv6 endpoint, an IPv4 host cannot be written to.
    call.name(NAME, &[HERE]);
    let six = Endpoint::bound((HERE_V6, 0).into());
    let peer = call.dial(dial(here).endpoint(six));
    call.meets(peer, PeerError::Unresolved { why: LookupError::NoAddress });
    // It is the same peer that is dialed again, once the name has an address.
    let peer = call.dial(Dial::to("later.test", here.port()).unwrap().try_for(LONG));
    call.meets(peer, PeerError::Unresolved { why: LookupError::NotFound });
    call.name("later.test", &[HERE]);
    call.run(0, move |cx| cx.io.redial(peer)).unwrap();
    call.tries(peer, here);
    is_greeted(&mut call, &friend);
    let stats = call.drain();
    assert_eq!((stats.lookups, stats.lookups_failed, stats.attempts), (7, 6, 1));
}

fn an_address_needs_no_lookup(bed: Bed) {
    let mut call = Call::start(bed, Config::new());
    for ip in [HERE, HERE_V6] {
        let friend = call.bed.peer((ip, 0).into());
        let here = friend.address();
        let dial: Dial = here.to_string().parse().unwrap();
        let peer = call.dial(dial.try_for(SHORT));
        call.tries(peer, here);
        is_greeted(&mut call, &friend);
        call.meets(peer, silence(1));
        call.run(0, move |cx| cx.io.redial(peer)).unwrap();
        call.tries(peer, here);
        let from = is_greeted(&mut call, &friend);
        call.bed.send(&friend, from, b"late");
        call.hears(peer, b"late");
    }
    assert_eq!(call.drain().lookups, 0);
}

fn what_a_stranger_says_settles_nothing(bed: Bed) {
    let mut call = Call::start(bed, Config::new());
    let (silent, here) = friend(&mut call);
    let stranger = call.bed.peer(here);
    call.name(NAME, &[HERE, dead(1)]);
    let peer = call.dial(dial(here));
    call.tries(peer, here);
    let from = is_greeted(&mut call, &silent);
    call.bed.send(&stranger, from, b"it is me, believe me");
    call.bed.until("it was dropped", |bed| bed.stats(&call.server).dropped_foreign == 1);
    call.tries(peer, at(dead(1), here));
    // Nor what the first says now that another is tried: to its handler it would be news from that one.
    call.bed.send(&silent, from, b"too late");
    call.meets(peer, silence(2));
    let stats = call.drain();
    assert_eq!((stats.dropped_foreign, stats.delivered, stats.attempts_failed), (2, 0, 2));
}

fn an_attempt_that_fails_makes_room_for_the_next(bed: Bed) {
    let mut call = Call::start(bed, Config::new());
    let (friend, here) = friend(&mut call);
    // An address that is not this host's, from where nothing can be sent: each attempt fails at once.
    let nowhere = Endpoint::bound("203.0.113.9:0".parse().unwrap());
    call.name(NAME, &[HERE, dead(1)]);
    let begin = std::time::Instant::now();
    let peer = call.dial(dial(here).try_for(LONG).endpoint(nowhere));
    call.tries(peer, here);
    call.tries(peer, at(dead(1), here));
    let Seen::Error { peer: of, error } = call.next() else { panic!("no error") };
    let PeerError::NoAnswer { addresses: 2, last: AttemptFault::NotOpened { .. } } = error else {
        panic!("{error:?}")
    };
    assert_eq!(of, peer);
    assert!(begin.elapsed() < LONG, "nothing was waited for");
    // So it is where there is no such interface.
    let nowhere = Endpoint::bound((HERE, 0).into()).on_interface(Interface::named("no-such-one").unwrap());
    let peer = call.dial(dial(here).try_for(LONG).endpoint(nowhere));
    call.tries(peer, here);
    call.tries(peer, at(dead(1), here));
    call.meets(peer, PeerError::NoAnswer { addresses: 2, last: AttemptFault::NotOpened { errno: 19 } });
    // The other peer of an endpoint that is shared has the address; the next is free.
    let id = call.run(0, |cx| cx.io.endpoint(Endpoint::bound((HERE, 0).into())).unwrap());
    call.run(0, move |cx| cx.open(Via::Endpoint(id), here, ()).unwrap());
    let peer = call.dial(dial(here).try_for(TINY).via(id));
    call.tries(peer, at(dead(1), here));
    call.meets(peer, silence(2));
    drop(friend);
    let stats = call.drain();
    assert_eq!((stats.attempts, stats.attempts_failed), (6, 6));
}

fn a_shared_endpoint_serves_many_dials(bed: Bed) {
    let mut call = Call::start(bed, Config::new().max_endpoints(1));
    let id = call.run(0, |cx| cx.io.endpoint(Endpoint::bound((HERE, 0).into())).unwrap());
    let friends: Vec<_> = (0..3).map(|_| friend(&mut call)).collect();
    call.name(NAME, &[HERE_V6, HERE]);
    let mut from = None;
    for (friend, here) in &friends {
        // The IPv6 address is passed over.
        let peer = call.dial(dial(*here).try_for(LONG).via(id));
        call.tries(peer, *here);
        let source = is_greeted(&mut call, friend);
        assert_eq!(*from.get_or_insert(source), source, "all from the one port");
        call.bed.send(friend, source, b"welcome");
        call.hears(peer, b"welcome");
        call.run(0, move |cx| cx.io.close(peer));
        assert!(matches!(call.next(), Seen::Closed { .. }));
    }
    // It is not the dials' to close.
    assert!(call.run(0, move |cx| cx.io.endpoint_address(id)).is_some());
    call.run(0, move |cx| cx.close_endpoint(id));
    let port = friends[0].1.port();
    let closed = call.run(0, move |cx| cx.dial(Dial::to(NAME, port).unwrap().via(id), ()).err());
    assert_eq!(closed, Some(DialError::NoSuchEndpoint));
    call.drain();
}

fn an_answer_that_nobody_waits_for_changes_nothing(bed: Bed) {
    let mut call = Call::start(bed, Config::new());
    call.names.set(&mut call.bed, NAME, Ok(vec![HERE]), SHORT);
    let here = SocketAddr::new(HERE, 9);
    // One is closed, another has its slot, a third has less time than it takes.
    let closed = call.dial(dial(here));
    call.run(0, move |cx| cx.io.close(closed));
    assert!(matches!(call.next(), Seen::Closed { .. }));
    let heir = call.dial(dial(here).try_for(LONG));
    assert_eq!(heir.slot(), closed.slot());
    let hasty = call.dial(dial(here).look_up_within(TINY));
    call.meets(hasty, PeerError::Unresolved { why: LookupError::TimedOut });
    call.run(0, move |cx| assert_eq!(cx.io.redial(heir), Ok(()), "it is being looked up already"));
    call.tries(heir, here);
    call.bed.until("the others were answered", |bed| bed.stats(&call.server).lookups_stale == 2);
    assert!(call.seen.try_recv().is_err());
    let stats = call.drain();
    assert_eq!((stats.lookups, stats.lookups_failed, stats.attempts), (3, 1, 1));
}

fn lookups_under_way_are_bounded(bed: Bed) {
    let mut call = Call::start(bed, Config::new().max_lookups(3));
    call.names.set(&mut call.bed, NAME, Err(LookupError::NotFound), TINY);
    let many = |call: &mut Call| {
        call.run(0, |cx| {
            let dials = (0..10).map(|_| cx.dial(Dial::to(NAME, 9).unwrap(), ()));
            dials.collect::<Vec<Result<PeerId, DialError>>>()
        })
    };
    let dialed = many(&mut call);
    assert_eq!(dialed.iter().filter(|dialed| dialed.is_ok()).count(), 3);
    assert!(dialed.iter().skip(3).all(|dialed| *dialed == Err(DialError::LookupsFull)), "{dialed:?}");
    let mut met: Vec<_> = (0..3).map(|_| call.next()).collect();
    met.sort_by_key(|seen| match seen {
        Seen::Error { peer, .. } => peer.slot(),
        other => panic!("{other:?}"),
    });
    let error = PeerError::Unresolved { why: LookupError::NotFound };
    let all: Vec<_> = dialed.into_iter().flatten().map(|peer| Seen::Error { peer, error }).collect();
    assert_eq!(met, all);
    // There is room again, for dials of old peers as for new ones.
    assert_eq!(many(&mut call).iter().filter(|dialed| dialed.is_ok()).count(), 3);
    let stats = call.stats();
    assert_eq!((stats.lookups_refused, stats.peers()), (14, 6), "a refused dial makes no peer");
    call.drain();
}

fn every_shard_hears_its_own_answers(bed: Bed) {
    const SHARDS: u16 = 3;
    let mut call = Call::start(bed, Config::new().shards(SHARDS));
    let (friend, here) = friend(&mut call);
    call.names.set(&mut call.bed, NAME, Ok(vec![HERE]), TINY);
    for shard in (0..SHARDS).rev() {
        let peer = call.run(shard, move |cx| cx.dial(dial(here).try_for(LONG), ()).unwrap());
        assert_eq!(peer.shard(), shard);
        call.tries(peer, here);
        let from = is_greeted(&mut call, &friend);
        call.bed.send(&friend, from, b"welcome");
        call.hears(peer, b"welcome");
        // Elsewhere its id means nothing.
        let other = call.run((shard + 1) % SHARDS, move |cx| cx.io.redial(peer));
        assert_eq!(other, Err(DialError::Gone));
    }
    assert_eq!(call.drain().lookups, u64::from(SHARDS));
}

fn a_drain_does_not_wait_for_names(bed: Bed) {
    let mut call = Call::start(bed, Config::new());
    call.names.set(&mut call.bed, NAME, Ok(vec![HERE]), Duration::from_secs(5));
    let peer = call.dial(Dial::to(NAME, 9).unwrap());
    call.run(0, move |cx| assert_eq!(cx.io.redial(peer), Ok(())));
    let begin = std::time::Instant::now();
    let stats = call.drain();
    assert!(begin.elapsed() < Duration::from_secs(5), "it is over before the name is found");
    assert_eq!((stats.peers_closed, stats.lookups, stats.attempts), (1, 1, 0));
}

fn a_handler_that_panics_loses_its_dials(bed: Bed) {
    let mut call = Call::start(bed, Config::new().max_endpoints(1));
    let (friend, here) = friend(&mut call);
    call.names.set(&mut call.bed, NAME, Ok(vec![HERE]), SHORT);
    call.name("here.test", &[HERE]);
    let looked_up = call.dial(dial(here));
    let tried = call.dial(Dial::to("here.test", here.port()).unwrap().try_for(LONG));
    call.tries(tried, here);
    is_greeted(&mut call, &friend);
    call.bed.tell(&call.server, 0, Box::new(|_| panic!("as the test asks")));
    for peer in [looked_up, tried] {
        assert_eq!(call.next(), Seen::Closed { peer, why: CloseReason::Restarted });
    }
    // The one endpoint there may be is free again, and what the name came to is nobody's.
    let again = call.dial(Dial::to("here.test", here.port()).unwrap().try_for(LONG));
    call.tries(again, here);
    is_greeted(&mut call, &friend);
    call.bed.until("the answer has come", |bed| bed.stats(&call.server).lookups_stale == 1);
    let stats = call.drain();
    assert_eq!((stats.restarts, stats.attempts, stats.lookups), (1, 2, 3));
}

fn only_what_was_dialed_is_dialed_again(bed: Bed) {
    let mut call = Call::start(bed, Config::new().max_peers(2));
    let (_, opened) = call.open(Endpoint::bound((HERE, 0).into()), (HERE, 9).into(), b"hello");
    assert_eq!(call.run(0, move |cx| cx.io.redial(opened)), Err(DialError::NotDialed));
    call.run(0, move |cx| cx.io.close(opened));
    assert!(matches!(call.next(), Seen::Closed { .. }));
    assert_eq!(call.run(0, move |cx| cx.io.redial(opened)), Err(DialError::Gone));
    let dials = call.run(0, |cx| [(); 3].map(|()| cx.dial(Dial::to("127.0.0.1", 9).unwrap(), ()).err()));
    assert_eq!(dials, [None, None, Some(DialError::TableFull)]);
    call.drain();
}

fn the_system_knows_this_host(bed: Bed) {
    let mut call = Call::start_with_the_systems_names(bed, Config::new());
    let (friend, here) = friend(&mut call);
    let peer = call.dial(Dial::to("localhost", here.port()).unwrap().try_for(SHORT));
    // Some systems name ::1 first, where nobody is.
    let mut tried = Vec::new();
    while tried.last() != Some(&here) {
        match call.next() {
            Seen::Attempt { remote, .. } => tried.push(remote),
            other => panic!("{other:?} after {tried:?}"),
        }
    }
    let from = is_greeted(&mut call, &friend);
    call.bed.send(&friend, from, b"welcome");
    call.hears(peer, b"welcome");
    // RFC 2606 section 2: nobody has a name under .invalid. Without a name server there is nobody to say so.
    let nobody = call.dial(Dial::to("nobody.invalid", 9).unwrap().look_up_within(SHORT));
    match call.next() {
        Seen::Error { peer, error: PeerError::Unresolved { why } } => {
            assert_eq!(peer, nobody);
            assert!(
                matches!(why, LookupError::NotFound | LookupError::Temporary | LookupError::TimedOut),
                "{why:?}"
            );
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(call.drain().lookups, 2);
}

mod system {
    on_real_drivers!(the_system_knows_this_host);
    use super::the_system_knows_this_host;
}

on_all_drivers!(
    the_next_address_is_tried_where_one_is_silent,
    families_take_turns_from_endpoints_of_their_own,
    a_host_of_which_no_address_answers_is_given_up_and_dialed_again,
    a_name_without_addresses_is_an_error,
    an_address_needs_no_lookup,
    what_a_stranger_says_settles_nothing,
    an_attempt_that_fails_makes_room_for_the_next,
    a_shared_endpoint_serves_many_dials,
    an_answer_that_nobody_waits_for_changes_nothing,
    lookups_under_way_are_bounded,
    a_drain_does_not_wait_for_names,
    every_shard_hears_its_own_answers,
    a_handler_that_panics_loses_its_dials,
    only_what_was_dialed_is_dialed_again,
);
