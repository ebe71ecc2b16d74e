//! A host between two networks, and a server on it that tells what it hears: for multicasts and broadcasts.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::mpsc::{Receiver, Sender, channel};

use shardgram::{
    Accept, Config, Context, Datagram, Endpoint, EndpointId, Handler, JoinError, Membership, PeerError,
    PeerId, Snapshot, Via,
};
use socket2::{Domain, Protocol, Socket, Type};

use super::namespace::{Host, await_link, run};
use super::{Bed, PATIENCE, Served};

/// This host's addresses in either network: IPv4 and IPv6.
pub const HERE: [[&str; 2]; 2] = [["10.77.0.1", "fd77::1"], ["10.78.0.1", "fd78::1"]];
/// Those of the host at the other end, two of each family.
pub const THERE: [[&str; 4]; 2] =
    [["10.77.0.2", "fd77::2", "10.77.0.3", "fd77::3"], ["10.78.0.2", "fd78::2", "10.78.0.3", "fd78::3"]];
/// This host's interfaces.
pub const BY: [&str; 2] = ["v0", "v1"];
pub const PORT: u16 = 7_000;

/// Two networks, each with this host and another in it.
pub struct Between {
    pub hosts: [Host; 2],
}

impl Between {
    #[allow(clippy::new_without_default, reason = "it makes namespaces")]
    pub fn new() -> Self {
        let hosts = [Host::new(), Host::new()];
        // Link-local addresses are usable at once: nobody else can have them here.
        let usable = "sysctl -qw net.ipv6.conf.default.accept_dad=0";
        run(usable);
        hosts.iter().for_each(|host| drop(host.run(usable)));
        for (at, host) in hosts.iter().enumerate() {
            host.cable(BY[at], "e0");
            // So that link-local addresses differ too.
            run(&format!("ip link set {} address 02:00:00:00:0{at}:01", BY[at]));
            let there = |command: &str| host.run(command);
            HERE[at].iter().for_each(|ip| add(run, ip, BY[at]));
            THERE[at].iter().for_each(|ip| add(there, ip, "e0"));
            run(&format!("ip link set {} up", BY[at]));
            host.run("ip link set e0 up");
            await_link(run, BY[at]);
            await_link(there, "e0");
        }
        Self { hosts }
    }

    /// A socket of the host in a network, bound to that address, which sends to groups by its only interface.
    pub fn client(&self, network: usize, ip: &str) -> UdpSocket {
        let address = SocketAddr::new(ip.parse().unwrap(), 0);
        self.hosts[network].inside(|| speaker(address, "e0"))
    }
}

fn add(run: impl Fn(&str) -> String, ip: &str, device: &str) {
    let rest = if ip.contains(':') { "64 nodad" } else { "24 broadcast +" };
    run(&format!("ip addr add {ip}/{rest} dev {device}"));
}

/// A socket that sends to groups by an interface, and may send broadcasts.
fn speaker(address: SocketAddr, device: &str) -> UdpSocket {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP)).unwrap();
    match address.ip() {
        IpAddr::V4(ip) => socket.set_multicast_if_v4(&ip).unwrap(),
        IpAddr::V6(_) => socket.set_multicast_if_v6(index(device)).unwrap(),
    }
    socket.set_broadcast(true).unwrap();
    socket.bind(&address.into()).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.into()
}

/// A member of a group: a socket with its port that joined it by an interface.
pub fn member(group: SocketAddr, ip: IpAddr, device: &str) -> UdpSocket {
    let any: IpAddr =
        if group.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = Socket::new(Domain::for_address(group), Type::DGRAM, Some(Protocol::UDP)).unwrap();
    match (group.ip(), ip) {
        (IpAddr::V4(group), IpAddr::V4(ip)) => socket.join_multicast_v4(&group, &ip).unwrap(),
        (IpAddr::V6(group), _) => socket.join_multicast_v6(&group, index(device)).unwrap(),
        _ => panic!("two families"),
    }
    socket.bind(&SocketAddr::new(any, group.port()).into()).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.into()
}

/// The index of an interface of the namespace this thread is in.
pub fn index(device: &str) -> u32 {
    let found = shardgram_sys::interfaces::index_of(shardgram::Interface::named(device).expect("a name"));
    found.unwrap_or_else(|error| panic!("{device}: {error}"))
}

/// What the server's handlers heard.
#[derive(Debug)]
pub enum Told {
    Datagram { shard: u16, local: SocketAddr, remote: SocketAddr, group: Option<IpAddr>, bytes: Vec<u8> },
    Group(JoinError),
    Error(PeerError),
    Opened(SocketAddr),
}

/// What a shard's handler is to do.
#[derive(Debug)]
pub enum Say {
    Join(Membership),
    Leave(Membership),
    /// Opens an endpoint there that joins a group.
    Open(SocketAddr, Membership),
    /// Sends from the endpoint, or from one opened for it.
    Send(SocketAddr, Vec<u8>),
}

/// Echoes, and tells.
pub struct Hears {
    to: Sender<Told>,
}

impl Hears {
    fn listener(cx: &Context<'_, Self>, like: IpAddr) -> Via {
        let of_family = |address: &&SocketAddr| address.is_ipv4() == like.is_ipv4();
        Via::Listener(*cx.io.listeners().iter().find(of_family).unwrap())
    }
}

impl Handler for Hears {
    type Peer = ();
    type Timer = EndpointId;
    type Message = Say;

    fn accept(&mut self, _: &mut Context<'_, Self>, _: &mut Datagram<'_>) -> Accept<()> {
        Accept::Peer(())
    }

    fn on_datagram(&mut self, cx: &mut Context<'_, Self>, _: PeerId, datagram: Datagram<'_>) {
        let (path, group, bytes) = (datagram.path(), cx.io.group(datagram.meta()), datagram.to_vec());
        let len = datagram.len();
        cx.io.reply(datagram, len).unwrap();
        let (shard, local, remote) = (cx.io.shard(), path.local, path.remote);
        let _ = self.to.send(Told::Datagram { shard, local, remote, group, bytes });
    }

    fn on_message(&mut self, cx: &mut Context<'_, Self>, _: shardgram::Origin, say: Say) {
        match say {
            Say::Join(membership) => {
                cx.io.join(Self::listener(cx, membership.group()), membership).unwrap();
            }
            Say::Leave(membership) => {
                cx.io.leave(Self::listener(cx, membership.group()), membership).unwrap();
            }
            Say::Open(bind, membership) => {
                let endpoint = cx.io.endpoint(Endpoint::bound(bind).any_source(true)).unwrap();
                cx.io.join(Via::Endpoint(endpoint), membership).unwrap();
                let now = cx.io.now();
                cx.io.set_timer(now, endpoint).unwrap();
            }
            Say::Send(to, bytes) => {
                let endpoint = cx.io.endpoint(Endpoint::towards(to)).unwrap();
                let peer = cx.open(Via::Endpoint(endpoint), to, ()).unwrap();
                cx.io.send(peer, &bytes).unwrap();
            }
        }
    }

    fn on_timer(&mut self, cx: &mut Context<'_, Self>, endpoint: EndpointId) {
        let address = cx.io.endpoint_address(endpoint).expect("it was opened a turn ago");
        let _ = self.to.send(Told::Opened(address));
    }

    fn on_group_error(&mut self, _: &mut Context<'_, Self>, _: Via, _: Membership, error: JoinError) {
        let _ = self.to.send(Told::Group(error));
    }

    fn on_peer_error(&mut self, _: &mut Context<'_, Self>, _: PeerId, error: PeerError) {
        let _ = self.to.send(Told::Error(error));
    }
}

/// Both wildcards.
pub fn wildcards() -> Config {
    let any: [IpAddr; 2] = [Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()];
    any.into_iter().fold(Config::new(), |config, ip| config.listen(SocketAddr::new(ip, PORT)))
}

/// A server that tells what it hears.
pub struct Hearing {
    pub bed: Bed,
    pub server: Served<Say>,
    pub told: Receiver<Told>,
}

/// What was heard of one datagram.
#[derive(PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Heard {
    pub bytes: Vec<u8>,
    /// Where an answer leaves from.
    pub local: IpAddr,
    pub group: Option<IpAddr>,
}

impl Hearing {
    pub fn begin(mut bed: Bed, config: Config) -> Self {
        let (to, told) = channel();
        let server = bed.serve(config, move |_| Hears { to: to.clone() });
        Self { bed, server, told }
    }

    pub fn say(&mut self, shard: u16, say: Say) {
        self.bed.tell(&self.server, shard, say);
    }

    pub fn next(&self) -> Told {
        self.told.recv_timeout(PATIENCE).expect("something is told")
    }

    /// The next datagram.
    pub fn heard(&self) -> Heard {
        match self.next() {
            Told::Datagram { local, group, bytes, .. } => Heard { bytes, local: local.ip(), group },
            other => panic!("{other:?}"),
        }
    }

    /// The counters of each shard.
    pub fn shard_stats(&self) -> Vec<Snapshot> {
        Bed::remote(&self.server).expect("a real server").shard_stats()
    }

    pub fn end(mut self) -> Snapshot {
        self.bed.drain(self.server)
    }
}

/// Sends, and says whence the answer comes. Only what a socket has sent itself is an answer to it.
pub fn ask(client: &UdpSocket, to: SocketAddr, bytes: &[u8]) -> SocketAddr {
    client.send_to(bytes, to).expect("sent");
    answer(client, bytes)
}

pub fn answer(client: &UdpSocket, bytes: &[u8]) -> SocketAddr {
    let mut buffer = [0; 64];
    let (len, from) = client.recv_from(&mut buffer).expect("an answer");
    assert_eq!(&buffer[..len], bytes);
    from
}

/// Nothing more has come to a socket.
pub fn nothing_more(client: &UdpSocket) {
    client.set_nonblocking(true).unwrap();
    let more = client.recv_from(&mut [0; 64]);
    assert!(more.is_err(), "{more:?}");
    client.set_nonblocking(false).unwrap();
}
