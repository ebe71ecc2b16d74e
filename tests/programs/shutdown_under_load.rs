//! Servers that end while clients flood them leave nothing behind: no descriptor, no socket, no taken port, and no
//! memory.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use shardgram::{Accept, Backend, Config, Context, Datagram, Endpoint, Handler, PeerId};

use crate::common::{Bed, Served};

/// Set in the process that plays the one part there is, with descriptors and memory that are nobody else's.
const ROLE: &str = "SHARDGRAM_TEST_ROLE";
/// Servers before memory is looked at, until the allocator has all its arenas (mallopt(3), M_ARENA_MAX) and stacks of threads
/// are kept for the next; and after that.
const WARM_UP: usize = 30;
const SERVERS: usize = 50;
/// The least of so many servers in a row is what is in use.
const IN_A_ROW: usize = 10;
const SHARDS: u16 = 2;
/// Datagrams that have to reach every socket of a server before it is ended.
const ENOUGH: u64 = 50;
/// Memory that the allocator may come to hold while servers come and go, in KiB. Receive buffers that stayed would
/// be more than that with each server.
const GROWTH_KIB: u64 = 1024;

/// Datagrams that the listeners and each shard's endpoint have got.
type Arrived = Arc<[AtomicU64]>;

/// Sends everything back, and does so on an endpoint too.
struct Busy {
    endpoint: SocketAddr,
    addresses: Arc<[SocketAddr]>,
    arrived: Arrived,
}

impl Busy {
    fn count(&self, datagram: &Datagram<'_>) {
        let local = datagram.path().local;
        if let Some(place) = self.addresses.iter().position(|address| *address == local) {
            self.arrived[place].fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Handler for Busy {
    type Peer = ();
    type Timer = ();
    type Message = ();

    fn on_start(&mut self, cx: &mut Context<'_, Self>) {
        cx.io.endpoint(Endpoint::bound(self.endpoint).any_source(true)).unwrap();
    }

    fn accept(&mut self, _: &mut Context<'_, Self>, first: &mut Datagram<'_>) -> Accept<()> {
        self.count(first);
        Accept::Peer(())
    }

    fn on_datagram(&mut self, cx: &mut Context<'_, Self>, _: PeerId, datagram: Datagram<'_>) {
        self.count(&datagram);
        let len = datagram.len();
        // No room for an answer: the flood goes on without it.
        let _ = cx.io.reply(datagram, len);
    }
}

/// Clients that send without end, whether or not anybody listens.
struct Flood {
    ended: Arc<AtomicBool>,
    threads: Vec<thread::JoinHandle<()>>,
}

impl Flood {
    fn at(addresses: &Arc<[SocketAddr]>) -> Self {
        let ended = Arc::new(AtomicBool::new(false));
        let client = |_| {
            let (addresses, ended) = (Arc::clone(addresses), Arc::clone(&ended));
            let sockets: Vec<_> = (0..16).map(|_| UdpSocket::bind("127.0.0.1:0").unwrap()).collect();
            thread::spawn(move || {
                while !ended.load(Ordering::Relaxed) {
                    for socket in &sockets {
                        for address in addresses.iter() {
                            // Nobody reads the answers, and a full buffer is none of the sender's affair.
                            let _ = socket.send_to(&[7; 300], address);
                        }
                    }
                    thread::yield_now();
                }
            })
        };
        Self { threads: (0..2).map(client).collect(), ended }
    }

    fn end(self) {
        self.ended.store(true, Ordering::Relaxed);
        self.threads.into_iter().for_each(|thread| thread.join().unwrap());
    }
}

/// Addresses nobody else has: an address of this test's own for each driver, and ports below those handed out.
fn addresses(backend: Backend) -> Arc<[SocketAddr]> {
    let ip: IpAddr = [127, 78, 0, if backend == Backend::Uring { 1 } else { 2 }].into();
    (0..=SHARDS).map(|place| SocketAddr::new(ip, 21_000 + place)).collect()
}

fn serve(bed: &mut Bed, addresses: &Arc<[SocketAddr]>) -> (Served<()>, Arrived) {
    let arrived: Arrived = addresses.iter().map(|_| AtomicU64::new(0)).collect();
    let (counts, all) = (Arc::clone(&arrived), Arc::clone(addresses));
    let config = Config::new().listen(addresses[0]).shards(SHARDS);
    let server = bed.serve(config, move |info| Busy {
        endpoint: all[1 + usize::from(info.shard)],
        addresses: Arc::clone(&all),
        arrived: Arc::clone(&counts),
    });
    (server, arrived)
}

/// Ends a server in one of the ways there are.
fn end(server: Served<()>, which: usize) {
    let Served::Real(handle) = server else { unreachable!("real drivers only") };
    match which % 3 {
        0 => drop(handle),
        1 => {
            handle.stop();
            handle.wait().expect("it stops");
        }
        _ => {
            // The flood leaves no moment without datagrams, so the deadline ends it.
            let report = handle.drain(Duration::from_millis(5)).expect("it ends");
            assert_eq!(report.total.unaccounted(), 0, "{:?}", report.total);
        }
    }
}

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// Sockets at one of these addresses, whoever has them (proc(5), /proc/net/udp: an address is a number in the
/// host's order).
fn sockets_at(addresses: &[SocketAddr]) -> usize {
    let written = |address: &SocketAddr| match address {
        SocketAddr::V4(v4) => {
            format!("{:08X}:{:04X}", u32::from_ne_bytes(v4.ip().octets()), v4.port())
        }
        SocketAddr::V6(_) => unreachable!("none here"),
    };
    let ours: Vec<_> = addresses.iter().map(written).collect();
    let table = std::fs::read_to_string("/proc/net/udp").unwrap();
    let local =
        |line: &str| line.split_whitespace().nth(1).is_some_and(|at| ours.iter().any(|our| our == at));
    table.lines().filter(|line| local(line)).count()
}

fn alone(mut bed: Bed, backend: Backend) {
    let addresses = addresses(backend);
    let flood = Flood::at(&addresses);
    let (server, _) = serve(&mut bed, &addresses);
    bed.until("the sockets are there", |_| sockets_at(&addresses) == usize::from(SHARDS) * 2);
    end(server, 0);
    let before = descriptors();
    let mut resident = Vec::new();
    for round in 0..WARM_UP + SERVERS {
        // Binds the same ports at once: they are free.
        let (server, arrived) = serve(&mut bed, &addresses);
        bed.until("every socket is flooded", |_| {
            arrived.iter().all(|count| count.load(Ordering::Relaxed) >= ENOUGH)
        });
        end(server, round);
        assert_eq!(sockets_at(&addresses), 0, "sockets are left after server {round}");
        assert_eq!(descriptors(), before, "descriptors are left after server {round}");
        resident.push(resident_kib());
    }
    flood.end();
    let least_before = |end: usize| *resident[end - IN_A_ROW..end].iter().min().unwrap();
    let (memory, after) = (least_before(WARM_UP), least_before(WARM_UP + SERVERS));
    println!("{backend:?}: {memory} KiB resident after {WARM_UP} servers, {after} KiB after {SERVERS} more");
    assert!(after <= memory + GROWTH_KIB, "{memory} KiB became {after} KiB");
}

fn nothing_is_left_of_servers_that_end_under_load(bed: Bed) {
    let Bed::Real(backend) = bed else { unreachable!("real drivers only") };
    if std::env::var_os(ROLE).is_some() {
        return alone(bed, backend);
    }
    let driver = if backend == Backend::Uring { "uring" } else { "mio" };
    let test = format!("shutdown_under_load::{driver}::nothing_is_left_of_servers_that_end_under_load");
    let here = std::env::current_exe().expect("a path");
    let arguments = [&test, "--exact", "--nocapture", "--test-threads=1"];
    // What is large is given back at once (mallopt(3)). By default that is so only until the first time.
    let given_back = [("MALLOC_MMAP_THRESHOLD_", "131072"), ("MALLOC_TRIM_THRESHOLD_", "131072")];
    let status = Command::new(here)
        .args(arguments)
        .env(ROLE, "alone")
        .envs(given_back)
        .status()
        .expect("it runs again");
    assert!(status.success(), "the part in a process of its own failed");
}

on_real_drivers!(nothing_is_left_of_servers_that_end_under_load);
