//! What shards are told when the addresses of a host change. Each test has a host of its own: it runs
//! itself again in a network namespace.

mod by_hand;
mod giving_way;
mod made_anew;
#[path = "../../tests/common/skip.rs"]
#[allow(unreachable_pub, reason = "shared with the tests of the server")]
mod skip;

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use shardgram_core::mailbox::Bell;
use shardgram_sys::{
    ListenerChange, ListenerGroup, ListenerSocket, SocketOptions, WantedAddress, flow_shard,
};

use super::{AddressThreads, LocalAddresses};
use crate::drivers::Changes;

const SHARDS: u16 = 2;
const PATIENCE: Duration = Duration::from_secs(10);
/// Set in the process that is in the namespace.
const INSIDE: &str = "SHARDGRAM_TEST_ROLE";

/// Runs `body` on a host with loopback and one cable: 10.77.0.1/24 and fd77::1/64.
fn on_a_host(test: &str, body: fn()) {
    if std::env::var_os(INSIDE).is_some() {
        ip("link set lo up");
        ip("link add v0 type veth peer name v1");
        // Only the addresses that are named here come and go.
        ip("link set v0 addrgenmode none");
        ip("link set v1 addrgenmode none");
        ip("address add 10.77.0.1/24 dev v0");
        ip("address add fd77::1/64 dev v0 nodad");
        ip("link set v1 up");
        ip("link set v0 up");
        return body();
    }
    match Command::new("unshare").args(["-r", "-n", "ip", "link", "set", "lo", "up"]).output() {
        Ok(output) if output.status.success() => {}
        Ok(output) => return skip::record(String::from_utf8_lossy(&output.stderr).trim()),
        Err(error) => return skip::record(&format!("unshare and ip (util-linux, iproute2): {error}")),
    }
    let again = std::env::current_exe().expect("a path");
    let arguments =
        [format!("local_addresses::tests::{test}"), "--exact".to_owned(), "--nocapture".to_owned()];
    let mut command = Command::new("unshare");
    let status = command.args(["-r", "-n"]).arg(again).args(arguments).env(INSIDE, test).status();
    assert!(status.expect("unshare").success(), "the part in the namespace failed");
}

fn ip(arguments: &str) {
    let output = Command::new("ip").args(arguments.split(' ')).output().expect("ip runs");
    assert!(output.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&output.stderr));
}

fn address(text: &str) -> IpAddr {
    text.parse().expect(text)
}

/// A server's listeners as far as local addresses are concerned.
struct Listening {
    local: LocalAddresses,
    /// Of the listen addresses, which are what was asked for with the port that was found.
    wildcards: Vec<SocketAddr>,
    /// Of each shard, as the server has them.
    sockets: Vec<Vec<ListenerSocket>>,
}

impl Listening {
    fn at(cap: usize, listen: &[&str]) -> Self {
        Self::with(&SocketOptions::default(), cap, listen)
    }

    fn with(options: &SocketOptions, cap: usize, listen: &[&str]) -> Self {
        let mut local = LocalAddresses::new(cap, options.clone());
        let mut sockets: Vec<Vec<_>> = (0..SHARDS).map(|_| Vec::new()).collect();
        let mut wildcards = Vec::new();
        for (listen, text) in (0..).zip(listen) {
            let mut group = ListenerGroup::bind(text.parse().expect(text), SHARDS, options).expect(text);
            wildcards.push(group.local_addr());
            for (shard, socket) in group.take_sockets().into_iter().enumerate() {
                sockets[shard].push(ListenerSocket {
                    listen,
                    local: None,
                    steered: true,
                    socket,
                    lease: None,
                    usage: None,
                });
            }
            local.beside(listen, group);
        }
        assert_eq!(local.expand(&mut sockets).expect("expand"), Vec::<String>::new());
        Self { local, wildcards, sockets }
    }

    /// The local addresses that have listeners, the same for all shards, in order.
    fn expanded(&self) -> Vec<IpAddr> {
        let of = |shard: &[ListenerSocket]| -> Vec<IpAddr> {
            let mut ips: Vec<_> = shard.iter().filter_map(|one| Some(one.local?.ip())).collect();
            ips.sort();
            ips
        };
        let first = of(&self.sockets[0]);
        assert!(self.sockets.iter().all(|shard| of(shard) == first));
        first
    }

    fn start(self) -> Running {
        let rung = Arc::new(AtomicU32::new(0));
        let bells = (0..SHARDS).map(|_| {
            let (bell, rung) = (Bell::default(), Arc::clone(&rung));
            bell.connect(Box::new(move || {
                rung.fetch_add(1, Ordering::Relaxed);
            }));
            Arc::new(bell)
        });
        let (changes, threads) = self.local.start(&bells.collect::<Vec<_>>()).expect("threads");
        let shards = changes.into_iter().map(|changes| changes.expect("channels")).collect();
        Running { gives_way: false, shards, rung, sockets: self.sockets, threads, wildcards: self.wildcards }
    }
}

struct Running {
    /// What is removed next gives way, and the host has it still.
    gives_way: bool,
    shards: Vec<Changes>,
    rung: Arc<AtomicU32>,
    sockets: Vec<Vec<ListenerSocket>>,
    threads: Option<AddressThreads>,
    wildcards: Vec<SocketAddr>,
}

impl Running {
    /// The next change that every shard is told, and that no other came before it.
    fn next(&self) -> (u16, Vec<ListenerChange>) {
        let next = |shard: &Changes| shard.0.recv_timeout(PATIENCE).expect("a change");
        let changes: Vec<_> = self.shards.iter().map(next).collect();
        let listen = match &changes[0] {
            ListenerChange::Added(listener) => listener.listen,
            ListenerChange::Removed { listen, .. } => *listen,
        };
        (listen, changes)
    }

    fn added(&self, listen: u16, ip: IpAddr) -> Vec<ListenerSocket> {
        let (of, changes) = self.next();
        let added: Vec<_> = changes
            .into_iter()
            .map(|change| match change {
                ListenerChange::Added(listener) => listener,
                ListenerChange::Removed { .. } => panic!("{change:?} when {ip} was to be added"),
            })
            .collect();
        for listener in &added {
            let local = listener.local.expect("a local address");
            assert_eq!((of, listener.listen, local.ip()), (listen, listen, ip));
            assert_eq!(local.port(), self.wildcards[usize::from(listen)].port());
            assert_eq!(listener.socket.local_addr().expect("a name"), local);
        }
        added
    }

    fn removed(&self, listen: u16, ip: IpAddr) {
        for change in self.next().1 {
            let ListenerChange::Removed { listen: of, ip: removed, lost } = change else {
                panic!("{change:?} when {ip} was to be removed");
            };
            assert_eq!((of, removed, lost), (listen, ip, !self.gives_way));
        }
    }

    fn ask(&self, shard: usize, listen: u16, ip: IpAddr) {
        self.shards[shard]
            .1
            .send_timeout(WantedAddress { listen, ip, often: true }, PATIENCE)
            .expect("it listens");
    }
}

/// A datagram to the local address comes out of the socket of the shard that owns its flow.
fn assert_serve<'a>(sockets: impl IntoIterator<Item = &'a ListenerSocket>) {
    for (shard, listener) in (0..SHARDS).zip(sockets) {
        let to = listener.socket.local_addr().expect("a name");
        let to = SocketAddr::new(listener.local.map_or(address("127.0.0.77"), |local| local.ip()), to.port());
        let (client, name) = loop {
            let client = UdpSocket::bind((to.ip(), 0)).expect("client");
            let name = client.local_addr().expect("a name");
            if flow_shard(name, SHARDS) == shard {
                break (client, name);
            }
        };
        // An IPv6 address can be bound a moment before there is a way to it.
        let end = Instant::now() + PATIENCE;
        listener.socket.set_read_timeout(Some(Duration::from_millis(100))).expect("a timeout");
        let source = loop {
            client.send_to(b"hello", to).expect("send");
            match listener.socket.recv_from(&mut [0; 8]) {
                Ok((_, source)) => break source,
                Err(error) => assert!(Instant::now() < end, "{error} at {to} from {name}, shard {shard}"),
            }
        };
        assert_eq!(source, name, "at {to}");
    }
}

#[test]
fn every_address_has_listeners_when_the_server_is_bound() {
    on_a_host("every_address_has_listeners_when_the_server_is_bound", || {
        let listening = Listening::at(64, &["0.0.0.0:0", "[::]:0", "127.0.0.1:0"]);
        let expected = ["10.77.0.1", "127.0.0.1", "::1", "fd77::1"].map(address);
        assert_eq!(listening.expanded(), expected, "the third listen address is specific already");
        let places = listening.sockets[0].len();
        for place in (0..places).filter(|place| *place != 1 && *place != 2) {
            assert_serve(listening.sockets.iter().map(|shard| &shard[place]));
        }
    });
}

#[test]
fn addresses_come_and_go_while_it_serves() {
    on_a_host("addresses_come_and_go_while_it_serves", || {
        let running = Listening::at(64, &["127.0.0.1:0", "0.0.0.0:0", "[::]:0"]).start();
        let cases =
            [(1, "10.77.0.2", "/24 dev v0"), (2, "fd77::2", "/64 dev v0"), (1, "10.78.0.1", "/32 dev lo")];
        for (listen, ip_text, rest) in cases {
            let nodad = if ip_text.contains(':') { " nodad" } else { "" };
            // Twice: what was lost comes back as a new group.
            for again in [false, true] {
                let start = Instant::now();
                ip(&format!("address add {ip_text}{rest}{nodad}"));
                let added = running.added(listen, address(ip_text));
                assert!(again || start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
                assert_serve(&added);
                ip(&format!("address del {ip_text}{rest}"));
                running.removed(listen, address(ip_text));
                drop(added);
            }
        }
        assert!(
            running.rung.load(Ordering::Relaxed) >= 6 * 2 * u32::from(SHARDS),
            "each change wakes the shard"
        );
    });
}

#[test]
fn an_address_that_is_tentative_at_first() {
    on_a_host("an_address_that_is_tentative_at_first", || {
        let running = Listening::at(64, &["[::]:0"]).start();
        // The host asks its neighbours for about a second whether they have it.
        ip("address add fd77::2/64 dev v0");
        let bind = UdpSocket::bind("[fd77::2]:0").expect_err("it is tentative");
        assert_eq!(bind.kind(), std::io::ErrorKind::AddrNotAvailable);
        assert_serve(&running.added(0, address("fd77::2")));
    });
}

#[test]
fn link_local_addresses_have_their_interface() {
    on_a_host("link_local_addresses_have_their_interface", || {
        let running = Listening::at(64, &["[::]:0"]).start();
        ip("address add fe80::77/64 dev v0 nodad");
        let added = running.added(0, address("fe80::77"));
        for listener in &added {
            let Some(SocketAddr::V6(local)) = listener.local else { panic!("{:?}", listener.local) };
            assert_ne!(local.scope_id(), 0);
        }
        // The same address on another interface has no group: a change names it by the address alone.
        ip("address add fe80::77/64 dev v1 nodad");
        ip("address add fd77::2/64 dev v0 nodad");
        running.added(0, address("fd77::2"));
        // When the first one goes the other one takes its place.
        ip("address del fe80::77/64 dev v0");
        running.removed(0, address("fe80::77"));
        drop(added);
        let scopes: Vec<_> = running.added(0, address("fe80::77")).iter().map(|one| one.local).collect();
        assert!(scopes.iter().all(|local| matches!(local, Some(SocketAddr::V6(v6)) if v6.scope_id() != 0)));
    });
}

#[test]
fn there_are_no_more_than_the_cap() {
    on_a_host("there_are_no_more_than_the_cap", || {
        assert!(Listening::at(0, &["0.0.0.0:0"]).expanded().is_empty());
        let listening = Listening::at(2, &["0.0.0.0:0", "[::]:0"]);
        assert_eq!(listening.expanded().len(), 4, "two for each");
        let mut running = listening.start();
        ip("address add 10.77.0.2/24 dev v0");
        running.ask(0, 0, address("127.0.0.9"));
        // When one goes there is room for the next.
        ip("address del 10.77.0.1/24 dev v0");
        running.removed(0, address("10.77.0.1"));
        let left: Vec<_> = running.sockets.iter().flatten().filter(|one| one.local.is_some()).collect();
        assert_eq!(left.len(), 4 * usize::from(SHARDS));
        // Its sockets have their places until they are closed.
        let is_gone = |one: &ListenerSocket| one.local.is_some_and(|at| at.ip() == address("10.77.0.1"));
        running.sockets.iter_mut().for_each(|of_shard| of_shard.retain(|one| !is_gone(one)));
        // Removing the first address of a network removes the others, which are added again here.
        let _ = Command::new("ip").args("address add 10.77.0.3/24 dev v0".split(' ')).output();
        let (listen, changes) = running.next();
        assert_eq!(listen, 0);
        assert!(changes.iter().all(|change| matches!(change, ListenerChange::Added(_))), "{changes:?}");
    });
}

#[test]
fn a_new_group_waits_until_every_shard_has_closed_the_old_one() {
    on_a_host("a_new_group_waits_until_every_shard_has_closed_the_old_one", || {
        let running = Listening::at(64, &["0.0.0.0:0"]).start();
        let returns = address("10.77.0.2");
        ip("address add 10.77.0.2/24 dev v0");
        let mut old = running.added(0, returns);
        ip("address del 10.77.0.2/24 dev v0");
        running.removed(0, returns);
        ip("address add 10.77.0.2/24 dev v0");
        // All is told in one order, so what comes later and is told first says that the other waits.
        for later in ["10.77.0.3", "10.77.0.4"] {
            running.ask(0, 0, returns);
            ip(&format!("address add {later}/24 dev v0"));
            running.added(0, address(later));
            drop(old.pop());
        }
        assert_serve(&running.added(0, returns));
    });
}

#[test]
fn a_group_that_no_shard_could_take_is_not_taken_to_be_there() {
    on_a_host("a_group_that_no_shard_could_take_is_not_taken_to_be_there", || {
        let running = Listening::at(3, &["0.0.0.0:0"]).start();
        for last in 9..12 {
            running.ask(0, 0, IpAddr::from([127, 0, 0, last]));
        }
        drop(running.added(0, address("127.0.0.9")));
        // There is a place again.
        running.ask(0, 0, address("127.0.0.12"));
        while running.shards[0].0.is_empty() {
            running.ask(0, 0, address("127.0.0.12"));
        }
        running.added(0, address("127.0.0.12"));
    });
}

#[test]
fn what_a_shard_asks_for() {
    on_a_host("what_a_shard_asks_for", || {
        let running = Listening::at(64, &["0.0.0.0:0", "[::]:0"]).start();
        running.ask(0, 0, address("127.0.0.9"));
        assert_serve(&running.added(0, address("127.0.0.9")));
        ip("address add 10.79.0.1/24 broadcast 10.79.0.100 dev v0");
        running.added(0, address("10.79.0.1"));
        let refused = [
            (0, "127.0.0.9"),       // it has one
            (0, "10.77.0.1"),       // so does this, since the bind
            (0, "127.255.255.255"), // broadcast
            (0, "10.77.0.255"),
            (0, "10.79.0.100"),
            (0, "10.79.0.255"),
            (0, "255.255.255.255"),
            (0, "224.0.0.1"), // multicast
            (1, "ff02::1"),
            (0, "0.0.0.0"),
            (0, "::1"), // the other family
            (1, "127.0.0.9"),
            (1, "::ffff:127.0.0.9"),
            (1, "fe80::99"),  // of no interface
            (0, "192.0.2.1"), // of another host
            (1, "2001:db8::1"),
            (2, "127.0.0.10"), // no such listen address
            (u16::MAX, "127.0.0.10"),
        ];
        for (listen, ip) in refused {
            for shard in [0, 1] {
                running.ask(shard, listen, address(ip));
            }
        }
        // Requests are taken in order, so nothing came of those.
        running.ask(1, 0, address("127.0.0.11"));
        assert_serve(&running.added(0, address("127.0.0.11")));
    });
}

#[test]
fn a_flood_of_addresses_costs_little() {
    on_a_host("a_flood_of_addresses_costs_little", || {
        // Every address of the prefix is this host's, and IPv6 lets none of them be bound.
        ip("-6 route add local 2001:db8::/64 dev lo");
        let running = Listening::at(64, &["0.0.0.0:0", "[::]:0"]).start();
        for number in 0..2000u16 {
            running.ask(0, 1, IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, number + 1]));
        }
        // It goes on following the host, and answers again in the next second.
        ip("address add fd77::2/64 dev v0 nodad");
        running.added(1, address("fd77::2"));
        let start = Instant::now();
        while running.shards[0].0.is_empty() {
            assert!(start.elapsed() < PATIENCE, "it never answers again");
            running.ask(0, 0, address("127.0.0.9"));
        }
        running.added(0, address("127.0.0.9"));
    });
}

#[test]
fn a_shard_that_is_behind_is_told_everything_in_the_end() {
    on_a_host("a_shard_that_is_behind_is_told_everything_in_the_end", || {
        const MANY: u8 = 100;
        let running = Listening::at(4096, &["0.0.0.0:0"]).start();
        for last in 0..MANY {
            ip(&format!("address add 10.99.0.{last}/32 dev lo"));
        }
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..MANY {
            let (_, changes) = running.next();
            let locals: Vec<_> = changes
                .iter()
                .map(|change| match change {
                    ListenerChange::Added(listener) => listener.local.expect("a local address"),
                    ListenerChange::Removed { .. } => panic!("{change:?}"),
                })
                .collect();
            assert!(
                locals.iter().all(|local| *local == locals[0]),
                "all shards are told the same: {locals:?}"
            );
            assert!(seen.insert(locals[0]), "{} was told twice", locals[0]);
        }
    });
}

#[test]
fn the_threads_end_when_they_are_to() {
    on_a_host("the_threads_end_when_they_are_to", || {
        // The system cuts names to 15 bytes.
        let is_ours = |name: &str| name.starts_with("shardgram-addre") || name.starts_with("shardgram-netli");
        let ours = || {
            let tasks = std::fs::read_dir("/proc/self/task").expect("threads");
            let name = |task: std::fs::DirEntry| {
                std::fs::read_to_string(task.path().join("comm")).unwrap_or_default()
            };
            tasks.flatten().map(name).filter(|name| is_ours(name)).count()
        };
        // A thread takes its name when it first runs, and is listed a little longer than it can be joined.
        let until_there_are = |count| {
            let start = Instant::now();
            while ours() != count {
                assert!(start.elapsed() < PATIENCE, "{} threads instead of {count}", ours());
                std::thread::yield_now();
            }
        };
        let specific = Listening::at(64, &["127.0.0.1:0"]).local.start(&[Arc::default()]).expect("nothing");
        assert!(specific.0[0].is_none() && specific.1.is_none(), "there is nothing to follow");
        for shards_end_first in [false, true] {
            let mut running = Listening::at(64, &["0.0.0.0:0"]).start();
            until_there_are(2);
            // Somebody is behind while it ends.
            for last in 0..80 {
                running.ask(0, 0, IpAddr::from([127, 0, 1, last]));
            }
            if shards_end_first {
                running.shards.clear();
            }
            drop(running.threads.take());
            until_there_are(0);
        }
    });
}
