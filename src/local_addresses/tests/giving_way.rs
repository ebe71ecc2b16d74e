//! Who gives way where as many addresses have listeners of their own as may.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use shardgram_sys::SocketOptions;

use super::super::giving_way::{LOOK, REST};
use super::by_hand::ByHand;
use super::{Listening, address, assert_serve, ip, on_a_host};

#[test]
fn what_strangers_asked_for_gives_way_to_addresses_of_interfaces() {
    on_a_host("giving_way::what_strangers_asked_for_gives_way_to_addresses_of_interfaces", || {
        let mut running = Listening::at(4, &["0.0.0.0:0"]).start();
        let ask = |last| {
            running.ask(0, 0, IpAddr::from([127, 0, 0, last]));
            running.added(0, IpAddr::from([127, 0, 0, last]))
        };
        let asked = [ask(9), ask(10)];
        running.gives_way = true;
        let mut served = Vec::new();
        for (last, given_way) in (2..4).zip(asked) {
            ip(&format!("address add 10.77.0.{last}/24 dev v0"));
            running.removed(0, given_way[0].local.expect("a local address").ip());
            // Whatever happens meanwhile, one is enough.
            ip("address add fd77::9/64 dev v0 nodad");
            ip("address del fd77::9/64 dev v0");
            drop(given_way);
            let added = running.added(0, IpAddr::from([10, 77, 0, last]));
            assert_serve(&added);
            served.push(added);
        }
        // Those of interfaces keep their places.
        ip("address add 10.77.0.4/24 dev v0");
        running.ask(0, 0, address("127.0.0.9"));
        ip("address del 10.77.0.3/24 dev v0");
        running.gives_way = false;
        running.removed(0, address("10.77.0.3"));
    });
}

/// One that no interface has.
fn other(last: u8) -> IpAddr {
    [127, 0, 0, last].into()
}

/// A host that serves its own two addresses, and so many others that were asked for.
fn with_others(others: u8, now: Instant) -> ByHand {
    let cap = 2 + usize::from(others);
    let mut host = ByHand::under(address("0.0.0.0"), cap, SocketOptions::default(), now);
    (0..others).for_each(|at| host.ask(other(10 + at), false, now));
    assert_eq!(host.shards.open.len(), cap);
    host
}

#[test]
fn the_least_used_gives_way_to_an_address_of_an_interface() {
    on_a_host("giving_way::the_least_used_gives_way_to_an_address_of_an_interface", || {
        let start = Instant::now();
        let mut host = with_others(3, start);
        // By whichever shard it comes.
        for (last, times) in [(10, 9), (11, 1), (12, 2)] {
            (0..times).for_each(|time| host.count(other(last), time % 2));
        }
        for (came, gives_way) in [(2, 11), (3, 12), (4, 10)] {
            ip(&format!("address add 10.77.0.{came}/24 dev v0"));
            host.list(start);
            assert_eq!(host.shards.removed.pop(), Some((other(gives_way), false)));
            assert!(host.has([10, 77, 0, came].into()) && host.shards.removed.is_empty());
        }
        ip("address add 10.77.0.5/24 dev v0");
        host.list(start);
        assert!(host.shards.removed.is_empty(), "those of interfaces keep their places");
    });
}

#[test]
fn a_silent_one_gives_way_to_one_of_its_own_kind_and_a_busy_one_does_not() {
    on_a_host("giving_way::a_silent_one_gives_way_to_one_of_its_own_kind_and_a_busy_one_does_not", || {
        let start = Instant::now();
        let mut host = with_others(2, start);
        host.ask(other(20), true, start + LOOK / 2);
        assert!(!host.has(other(20)), "each has some time to be used");
        host.count(other(10), 0);
        host.ask(other(20), false, start + LOOK);
        assert!(!host.has(other(20)), "nobody gives way to what comes once");
        host.ask(other(20), true, start + LOOK);
        assert!(host.has(other(10)) && !host.has(other(11)) && host.has(other(20)));
        // What was busy and is no more gives way in the end, and not before others were silent for as long.
        let mut now = start + LOOK;
        for _ in 0..1_000 {
            host.count(other(20), 1);
        }
        for _ in 0..2 {
            now += LOOK;
            host.ask(other(21), true, now);
        }
        assert!(host.has(other(20)) && !host.has(other(10)) && host.has(other(21)));
        for _ in 0..12 {
            now += LOOK;
            host.count(other(21), 0);
            host.ask(other(22), true, now);
        }
        assert!(!host.has(other(20)) && host.has(other(21)) && host.has(other(22)));
    });
}

#[test]
fn strangers_cannot_keep_groups_coming_and_going() {
    on_a_host("giving_way::strangers_cannot_keep_groups_coming_and_going", || {
        const SECONDS: u32 = 60;
        let start = Instant::now();
        let mut host = with_others(30, start);
        let mut asked = 0_u32;
        for second in 0..SECONDS {
            // One is used a little: once in each look.
            if second % LOOK.as_secs() as u32 == 0 {
                host.count(other(10), 0);
            }
            for part in 0..20 {
                asked += 1;
                let [.., high, low] = asked.to_be_bytes();
                let now = start + Duration::from_secs(second.into()) + Duration::from_millis(50) * part;
                host.ask([127, 1, high, low].into(), true, now);
            }
        }
        assert!(host.has(other(10)), "it is used");
        let (times, most) = (host.shards.removed.len() as u32, SECONDS / REST.as_secs() as u32);
        assert!((1..=most).contains(&times), "{times} gave way");
    });
}

#[test]
fn nobody_gives_way_to_an_address_that_cannot_be_bound() {
    on_a_host("giving_way::nobody_gives_way_to_an_address_that_cannot_be_bound", || {
        let start = Instant::now();
        let mut host = with_others(1, start);
        for at in 1..9 {
            let elsewhere = [192, 0, 2, at].into();
            host.ask(elsewhere, true, start + LOOK * at.into());
            assert!(host.has(other(10)) && !host.has(elsewhere));
        }
        host.ask(other(11), true, start + LOOK * 9);
        assert!(!host.has(other(10)) && host.has(other(11)), "it had been silent all the time");
    });
}
