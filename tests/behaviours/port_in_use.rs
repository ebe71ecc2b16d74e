//! A port that anyone else holds is refused, whatever options the holder set; a drained server's port is
//! free at once.
use std::net::{SocketAddr, UdpSocket};

use crate::common::handlers::Echo;
use crate::common::{Bed, PATIENCE};
use shardgram::{Backend, BindError, Config, Server, StartError};

fn backend(bed: &Bed) -> Backend {
    match bed {
        Bed::Real(backend) => *backend,
        Bed::Sim(_) => unreachable!("real drivers only"),
    }
}

fn bind(bed: &Bed, at: SocketAddr) -> Result<Server, StartError> {
    Server::bind(Config::new().listen(at).shards(2).backend(backend(bed)))
}

fn refused(bed: &Bed, at: SocketAddr) {
    match bind(bed, at) {
        Err(StartError::Bind(error @ BindError::AddressInUse { address })) => {
            assert_eq!(address, at);
            let text = error.to_string();
            assert!(text.contains("in use") && text.contains("ss -ulnp") && !text.contains('\n'), "{text}");
        }
        other => panic!("{other:?}"),
    }
}

fn a_held_port_is_refused(bed: Bed) {
    for address in ["127.0.0.1:0", "[::1]:0"] {
        let holder = UdpSocket::bind(address).unwrap();
        refused(&bed, holder.local_addr().unwrap());
    }
}

fn a_holder_that_would_share_is_refused_as_well(bed: Bed) {
    let holder = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::DGRAM, None).unwrap();
    #[cfg(unix)]
    holder.set_reuse_port(true).unwrap();
    holder.set_reuse_address(true).unwrap();
    holder.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    refused(&bed, holder.local_addr().unwrap().as_socket().unwrap());
}

fn another_server_is_refused_and_the_first_goes_on(mut bed: Bed) {
    let server = bed.serve(crate::common::loopback().shards(2), |_| Echo);
    let at = bed.address(&server);
    refused(&bed, at);
    let peer = bed.peer(at);
    assert_eq!(bed.ask(&peer, at, b"still there"), b"still there");
    bed.drain(server);
}

fn nothing_is_left_bound_when_a_later_address_fails(bed: Bed) {
    let holder = UdpSocket::bind("127.0.0.1:0").unwrap();
    let free = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let config = Config::new().listen(free).listen(holder.local_addr().unwrap()).backend(backend(&bed));
    assert!(Server::bind(config).is_err());
    UdpSocket::bind(free).expect("the first address is free again");
}

fn a_drained_servers_port_is_free_at_once(bed: Bed) {
    let mut at = SocketAddr::from(([127, 0, 0, 1], 0));
    for _ in 0..20 {
        let server = bind(&bed, at).unwrap();
        at = server.local_addrs()[0];
        let handle = server.spawn(|_| Echo).unwrap();
        let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
        peer.set_read_timeout(Some(PATIENCE)).unwrap();
        peer.send_to(b"x", at).unwrap();
        peer.recv(&mut [0; 1]).expect("it serves");
        handle.drain(PATIENCE).unwrap();
    }
}

on_real_drivers!(
    a_held_port_is_refused,
    a_holder_that_would_share_is_refused_as_well,
    another_server_is_refused_and_the_first_goes_on,
    nothing_is_left_bound_when_a_later_address_fails,
    a_drained_servers_port_is_free_at_once,
);
