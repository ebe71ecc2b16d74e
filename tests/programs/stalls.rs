//! A shard that stands still, in a callback or because its process is stopped, says so, and closes nobody as idle whose
//! datagrams waited meanwhile.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, UdpSocket};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use crate::common::{Bed, Served, loopback, role};
use shardgram::{Accept, Context, Datagram, Handler, PeerId};

/// Silence that closes a peer, and how long the shard stands still.
const TIMEOUT: Duration = Duration::from_secs(1);
const STALL: Duration = Duration::from_millis(1_600);
/// More than one turn hands over.
const PEERS: usize = 60;
const BUDGET: u32 = 8;

/// Blocks when it is told to.
struct Blocking;

impl Handler for Blocking {
    type Peer = ();
    type Timer = ();
    type Message = ();

    fn accept(&mut self, _: &mut Context<'_, Self>, _: &mut Datagram<'_>) -> Accept<()> {
        Accept::Peer(())
    }

    fn on_datagram(&mut self, _: &mut Context<'_, Self>, _: PeerId, datagram: Datagram<'_>) {
        if &datagram[..] == b"block" {
            std::thread::sleep(STALL);
        }
    }
}

/// The process that serves: it says where, and its counters for every line it reads.
fn serve(mut bed: Bed) {
    let server = bed.serve(loopback().idle_timeout(Some(TIMEOUT)).turn_budget(BUDGET), |_| Blocking);
    println!("at {}", bed.address(&server));
    for line in std::io::stdin().lines() {
        line.unwrap();
        let stats = bed.stats(&server);
        println!("at {} {} {} {}", stats.peers_opened, stats.peers_closed, stats.stalls, stats.longest_turn);
    }
    let Served::Real(handle) = server else { unreachable!("a real server") };
    handle.remote().stop();
    handle.wait().unwrap();
}

struct Process {
    child: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
}

impl Process {
    fn start(test: &str) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        let command = role::play(&mut command, test, "server").stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let (to, from) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        Self { child, to, from }
    }

    /// What it says next.
    fn words(&mut self) -> Vec<String> {
        loop {
            let mut line = String::new();
            assert_ne!(self.from.read_line(&mut line).unwrap(), 0, "it has ended");
            // The test runner may have begun the line.
            if let Some((_, said)) = line.split_once("at ") {
                return said.split_whitespace().map(str::to_owned).collect();
            }
        }
    }

    /// Peers opened, peers closed, stalls, and the longest turn.
    fn counters(&mut self) -> [u64; 4] {
        self.to.write_all(b"\n").unwrap();
        let numbers: Vec<u64> = self.words().iter().map(|word| word.parse().unwrap()).collect();
        numbers.try_into().unwrap()
    }

    fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args([&format!("-{name}"), &id]).status().unwrap().success());
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Has all speak for so long. Whether none was silent for half of the timeout meanwhile.
fn speak(peers: &[UdpSocket], how_long: Duration) -> bool {
    let (start, mut last, mut longest) = (Instant::now(), Instant::now(), Duration::ZERO);
    while start.elapsed() < how_long {
        for peer in peers {
            peer.send(b"still here").unwrap();
        }
        std::thread::sleep(TIMEOUT / 10);
        longest = longest.max(std::mem::replace(&mut last, Instant::now()).elapsed());
    }
    longest < TIMEOUT / 2
}

/// Whether it showed anything: on a machine that is too busy the peers are silent themselves.
fn shows(test: &str, stops: bool) -> bool {
    let mut server = Process::start(test);
    let at: SocketAddr = server.words()[0].parse().unwrap();
    let peers: Vec<_> = (0..PEERS).map(|_| UdpSocket::bind("127.0.0.1:0").unwrap()).collect();
    peers.iter().for_each(|peer| peer.connect(at).unwrap());
    let mut spoke = speak(&peers, TIMEOUT / 2);
    let before = server.counters();
    if stops {
        server.signal("STOP");
    } else {
        peers[0].send(b"block").unwrap();
    }
    spoke &= speak(&peers, STALL);
    if stops {
        server.signal("CONT");
    }
    spoke &= speak(&peers, TIMEOUT);
    let [opened, closed, stalls, longest] = server.counters();
    println!("{stops}: {opened} opened, {closed} closed, {stalls} stalls, the longest turn {longest} ns");
    if !spoke {
        return false;
    }
    assert_eq!((opened, closed), (PEERS as u64, 0), "who spoke all the time was closed as silent");
    assert!(stalls > before[2], "it was not told");
    // A process that is stopped is late only from when it was to wake up.
    let least = if stops { STALL - TIMEOUT } else { STALL };
    assert!(u128::from(longest) >= (least - TIMEOUT / 5).as_nanos(), "{longest} ns of {least:?}");
    true
}

fn who_waits_is_not_silent(bed: impl Fn() -> Bed, test: &str) {
    if role::mine().is_some() {
        return serve(bed());
    }
    for stops in [false, true, true, true] {
        // Only a machine that keeps all for half a second from running, again and again, is waited for.
        while !shows(test, stops) {}
    }
}

#[test]
fn uring() {
    if Bed::uring().is_some() {
        who_waits_is_not_silent(|| Bed::uring().unwrap(), "stalls::uring");
    }
}

#[test]
fn mio() {
    who_waits_is_not_silent(Bed::mio, "stalls::mio");
}
