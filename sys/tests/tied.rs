//! A socket that is bound to an interface hears again when that was made anew, whoever it belongs to.
#![cfg(target_os = "linux")]

mod support;

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use shardgram_sys::flow_shard;
use shardgram_sys::interfaces::{Tie, Tied};
use shardgram_sys::{ListenerGroup, SocketOptions};
use support::accept::{enter_network_with_a_cable, ip};
use support::{until, without_privileges};

const PORT: u16 = 7_000;

/// Makes the cable whose ends have fe80::1 and fe80::9, and says which indexes they have.
fn make() -> [u32; 2] {
    ip("link add t0 type veth peer name t1");
    for (end, address) in [("t0", "fe80::1"), ("t1", "fe80::9")] {
        ip(&format!("link set {end} addrgenmode none"));
        ip(&format!("address add {address}/64 dev {end} nodad"));
        ip(&format!("link set {end} up"));
    }
    ["t0", "t1"].map(|end| {
        let interface = shardgram_core::Interface::named(end).expect("a name");
        shardgram_sys::interfaces::index_of(interface).expect("it is there")
    })
}

fn at(address: &str, interface: u32, port: u16) -> SocketAddr {
    format!("[{address}%{interface}]:{port}").parse().expect("an address")
}

/// A datagram from the other end comes out of the socket of the shard that owns its flow.
fn hear(sockets: &[UdpSocket], by: u32) -> io::Result<()> {
    let client = UdpSocket::bind(at("fe80::9", by, 0))?;
    client.send_to(b"hello", at("fe80::1", by, sockets[0].local_addr()?.port()))?;
    let owner = &sockets[usize::from(flow_shard(client.local_addr()?, sockets.len() as u16))];
    owner.set_read_timeout(Some(Duration::from_millis(200)))?;
    owner.recv(&mut [0; 16]).map(|_| ())
}

/// `look` gives nothing where it cannot be tried.
fn it_hears_again(port: u16, look: impl FnOnce(Vec<Tied>) -> Option<(Vec<Tied>, Vec<Tie>)>) {
    let [near, far] = make();
    let mut group =
        ListenerGroup::bind(at("fe80::1", near, port), 2, &SocketOptions::default()).expect("bound");
    let sockets = group.take_sockets();
    until("the cable carries", || (0..16).all(|_| hear(&sockets, far).is_ok()));
    let tied = |socket| {
        let tied = Tied::of(socket, port != 0).expect("asked");
        tied.expect("a link-local address is of an interface")
    };
    let mut all: Vec<_> = sockets.iter().map(tied).collect();
    assert!(all.iter_mut().all(|one| one.interface() == "t0" && one.look().expect("asked") == Tie::Holds));
    ip("link del t0");
    assert!(all.iter_mut().all(|one| one.look().expect("asked") == Tie::Broken));
    let [_, far] = make();
    let Some((mut all, ties)) = look(all) else { return };
    assert_eq!(ties, [Tie::Mended; 2]);
    until("each shard hears what it owns", || (0..16).all(|_| hear(&sockets, far).is_ok()));
    assert!(all.iter_mut().all(|one| one.look().expect("asked") == Tie::Holds));
}

fn look(mut all: Vec<Tied>) -> Option<(Vec<Tied>, Vec<Tie>)> {
    let ties = all.iter_mut().map(|one| one.look().expect("bound")).collect();
    Some((all, ties))
}

#[test]
fn with_every_right() {
    if enter_network_with_a_cable() {
        it_hears_again(PORT, look);
    }
}

#[test]
fn without_any() {
    if enter_network_with_a_cable() {
        it_hears_again(PORT, |all| {
            let (tell, told) = std::sync::mpsc::channel();
            without_privileges(move || tell.send(look(all)).expect("somebody hears"));
            told.recv().ok().flatten()
        });
    }
}

/// Such a port is let go with the association.
#[test]
fn one_whose_port_the_system_chose_stays_as_it_was() {
    if enter_network_with_a_cable() {
        it_hears_again(0, |mut all| {
            for one in &mut all {
                assert_eq!(one.look().expect_err("refused").kind(), io::ErrorKind::Unsupported);
            }
            None
        });
    }
}

#[test]
fn most_sockets_are_of_no_interface() {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("bound");
    assert!(Tied::of(&socket, false).expect("asked").is_none());
}
