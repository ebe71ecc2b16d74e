//! A socket of another process where a server listens, in the port group of its listeners or under its wildcard, is counted
//! and warned of. Whatever sockets the server's own process has there are not: those of peers, endpoints, other servers, one
//! that served there before.

use std::fs::read_link;
use std::io::{BufRead, BufReader, Read, Write as _};
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Mutex;

use shardgram::{
    Accept, BindError, Config, Context, Datagram, Endpoint, Handler, PeerId, Server, StartError, Via,
};
use tracing::{Level, Metadata};

use crate::common::{Bed, PATIENCE, Served, log, role, skip, to_loopback};

const PEERS: usize = 20;
const SHARDS: u16 = 2;

/// Echoes, and has an endpoint of its own at each shard.
struct Echo;

impl Handler for Echo {
    type Peer = ();
    type Timer = ();
    type Message = ();

    fn on_start(&mut self, cx: &mut Context<'_, Self>) {
        let to = SocketAddr::from(([127, 0, 0, 1], 9));
        let endpoint = cx.io.endpoint(Endpoint::towards(to)).expect("room");
        cx.open(Via::Endpoint(endpoint), to, ()).expect("room");
    }

    fn accept(&mut self, _: &mut Context<'_, Self>, _: &mut Datagram<'_>) -> Accept<()> {
        Accept::Peer(())
    }

    fn on_datagram(&mut self, cx: &mut Context<'_, Self>, _: PeerId, datagram: Datagram<'_>) {
        let len = datagram.len();
        cx.io.reply(datagram, len).expect("room");
    }
}

/// The warnings of foreign sockets.
static WARNINGS: Mutex<Vec<String>> = Mutex::new(Vec::new());

fn is_of_foreign_sockets(metadata: &Metadata<'_>) -> bool {
    metadata.target() == "shardgram::foreign_sockets" && *metadata.level() == Level::WARN
}

fn warnings() -> Vec<String> {
    WARNINGS.lock().unwrap().clone()
}

/// Another process of the same user with a socket at an address.
struct Foreign {
    process: Child,
    /// The process ends when this does.
    input: Option<ChildStdin>,
    /// What its test runner prints in the end has somebody who could read it.
    _output: BufReader<ChildStdout>,
    inode: u64,
}

impl Foreign {
    const ROLE: &str = "foreign";

    fn at(address: SocketAddr) -> Self {
        let test = std::env::args().nth(1).expect("the test that runs");
        let mut command = Command::new(std::env::current_exe().expect("a path"));
        role::play(&mut command, &test, Self::ROLE).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = command.spawn().expect("it starts");
        let mut input = process.stdin.take();
        writeln!(input.as_mut().expect("piped"), "{address}").expect("it listens");
        let mut output = BufReader::new(process.stdout.take().expect("piped"));
        // The test runner prints the test's name before.
        let said = output.by_ref().lines().find_map(|line| {
            let line = line.expect("it speaks");
            line.split_once("> inode ").map(|(_, inode)| inode.parse().expect("a number"))
        });
        Self { process, input, _output: output, inode: said.expect("it binds a socket") }
    }

    /// What the other process does.
    fn play() {
        let mut address = String::new();
        std::io::stdin().read_line(&mut address).expect("an address");
        let socket = sharing(address.trim_end().parse().expect("an address"));
        println!("> inode {}", inode_of(&socket));
        std::io::stdin().read_to_end(&mut Vec::new()).expect("it ends");
    }
}

impl Drop for Foreign {
    fn drop(&mut self) {
        drop(self.input.take());
        let _ = self.process.wait();
    }
}

/// A socket that shares a port with others of its user. What it is bound to of IPv4 it may be as one of IPv6.
fn sharing(at: SocketAddr) -> UdpSocket {
    let socket = socket2::Socket::new(socket2::Domain::for_address(at), socket2::Type::DGRAM, None).unwrap();
    if at.is_ipv6() {
        socket.set_only_v6(false).unwrap();
    }
    socket.set_reuse_port(true).unwrap();
    socket.bind(&at.into()).unwrap();
    socket.into()
}

fn inode_of(socket: &UdpSocket) -> u64 {
    let link = read_link(format!("/proc/self/fd/{}", socket.as_raw_fd())).expect("a link");
    let text = link.to_str().expect("text");
    text.trim_start_matches("socket:[").trim_end_matches(']').parse().expect("a number")
}

fn bind(bed: &Bed, at: SocketAddr) -> Result<Server, StartError> {
    let Bed::Real(backend) = *bed else { unreachable!("real sockets") };
    let tier = *bed.tiers().last().expect("one");
    Server::bind(Config::new().listen(at).shards(SHARDS).backend(backend).tier(tier))
}

/// Serves, and has peers, over io_uring with sockets of their own.
fn serve(bed: &mut Bed, server: Server) -> (Served<()>, Vec<UdpSocket>) {
    let at = to_loopback(server.local_addrs()[0]);
    let server = Served::Real(server.spawn(|_| Echo).expect("it starts"));
    let peers: Vec<_> = (0..PEERS).map(|_| UdpSocket::bind((at.ip(), 0)).unwrap()).collect();
    for peer in &peers {
        peer.set_read_timeout(Some(PATIENCE)).unwrap();
        peer.connect(at).unwrap();
        peer.send(b"hello").unwrap();
        assert_eq!(peer.recv(&mut [0; 16]).expect("an answer"), 5);
    }
    if bed.tiers().len() > 1 {
        bed.until("peers have sockets", |bed| bed.stats(&server).connected() == PEERS as u64);
    }
    (server, peers)
}

fn foreign(bed: &mut Bed, server: &Served<()>) -> u64 {
    bed.stats(server).foreign_sockets
}

/// The newest of so many warnings names one of these sockets, and how many others there are.
fn is_warned_of(bed: &mut Bed, warned: usize, these: &[(SocketAddr, &Foreign)]) {
    bed.until("it is warned of", |_| warnings().len() >= warned);
    let all = warnings();
    assert_eq!(all.len(), warned, "{all:?}");
    let last = &all[warned - 1];
    let names = |(at, who): &(SocketAddr, &Foreign)| {
        let (id, inode, others) = (who.process.id(), who.inode, these.len() - 1);
        let parts = [
            format!(" address={at} "),
            format!(" inode={inode} "),
            format!(" holder=process {id} ("),
            format!(" others={others}"),
        ];
        parts.iter().all(|part| last.contains(part))
    };
    assert!(these.iter().any(names), "{last:?}");
    assert!(!last.contains('\n'), "one line: {last:?}");
}

/// Whether this process is to serve; it may be the other one, and where the kernel lacks the list nothing is to be shown.
fn is_the_server() -> bool {
    if role::mine().as_deref() == Some(Foreign::ROLE) {
        Foreign::play();
        return false;
    }
    if let Err(error) = shardgram_sys::bound_sockets::list(false, 9, |_| {}) {
        skip::record(&format!("no list of sockets: {error}"));
        return false;
    }
    log::listen(is_of_foreign_sockets, |line| WARNINGS.lock().unwrap().push(line.fields));
    true
}

fn one_that_joins_the_port_is_found(mut bed: Bed) {
    if !is_the_server() {
        return;
    }
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let [first, second] = [(); 2].map(|()| bind(&bed, any).expect("it binds"));
    let [at, at_second] = [&first, &second].map(|server| server.local_addrs()[0]);
    // The first look is at the start.
    let _own = sharing(at);
    let joined = Foreign::at(at);
    let (first, _peers) = serve(&mut bed, first);
    let (second, _peers_of_second) = serve(&mut bed, second);
    bed.until("it is counted", |bed| foreign(bed, &first) == 1);
    is_warned_of(&mut bed, 1, &[(at, &joined)]);
    drop(joined);
    let joined = Foreign::at(at_second);
    bed.until("one has gone", |bed| foreign(bed, &first) == 0);
    bed.until("one has come", |bed| foreign(bed, &second) == 1);
    // Each server's looks have seen its peers, its endpoints, and the other server.
    is_warned_of(&mut bed, 2, &[(at_second, &joined)]);
    assert_eq!(foreign(&mut bed, &first), 0);
    bed.drain(first);
    bed.drain(second);
}

fn those_under_a_wildcard_are_found(mut bed: Bed) {
    if !is_the_server() {
        return;
    }
    let before = bind(&bed, ([0, 0, 0, 0], 0).into()).expect("it binds");
    let at = before.local_addrs()[0];
    let (before, _peers) = serve(&mut bed, before);
    let while_it_serves = bind(&bed, at).map(|server| server.ready_line());
    assert!(
        matches!(while_it_serves, Err(StartError::Bind(BindError::AddressInUse { .. }))),
        "{while_it_serves:?}"
    );
    assert_eq!(bed.drain(before).foreign_sockets, 0);

    let server = bind(&bed, at).expect("the port is free again");
    let port = at.port();
    let under = ["127.0.0.9", "127.0.0.10"].map(|ip| SocketAddr::new(ip.parse().expect(ip), port));
    let first = Foreign::at(under[0]);
    let second = Foreign::at(format!("[::ffff:{}]:{port}", under[1].ip()).parse().expect("an address"));
    // These take nothing: a copy of what is sent to the group, and what the wildcard of IPv4 does not get.
    let _others = ["224.0.0.251", "::"].map(|ip| Foreign::at(SocketAddr::new(ip.parse().expect(ip), port)));
    let (server, _peers) = serve(&mut bed, server);
    bed.until("both are counted", |bed| foreign(bed, &server) == 2);
    is_warned_of(&mut bed, 1, &[(under[0], &first), (under[1], &second)]);
    bed.drain(server);
}

in_namespaces!(one_that_joins_the_port_is_found, those_under_a_wildcard_are_found);
