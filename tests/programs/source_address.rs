//! Replies leave from the address written to, on a host that has several of each family.
use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use crate::common::namespace::{Link, SERVER, two_hosts};
use crate::common::{Bed, Served};
use shardgram::Config;
use shardgram_conformance::Echo;

/// Serves both wildcards until the client has finished.
fn serve(mut bed: Bed, link: &mut Link) {
    let config = Config::new().listen("0.0.0.0:7000".parse().unwrap()).listen("[::]:7000".parse().unwrap());
    let config = SERVER.iter().fold(config.shards(2), |config, address| {
        config.listen(SocketAddr::new(address.parse().unwrap(), 7001))
    });
    let server = bed.serve(config, |_| Echo);
    link.say("serving");
    link.expect("done");
    let Served::Real(handle) = server else { unreachable!("a real server") };
    let total = handle.drain(crate::common::PATIENCE).unwrap().total;
    assert_eq!((total.sent(), total.unaccounted()), (12, 0), "{total:?}");
}

fn client(link: &mut Link) {
    link.expect("serving");
    for address in SERVER {
        for port in [7000, 7001] {
            let to = SocketAddr::new(address.parse().unwrap(), port);
            let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
            let socket = UdpSocket::bind(any).unwrap();
            socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
            socket.send_to(b"who are you?", to).unwrap();
            let (len, from) = socket.recv_from(&mut [0; 64]).expect("an answer");
            assert_eq!((len, from), (12, to), "the answer leaves from the address written to");
        }
    }
    link.say("done");
}

fn uring_server(link: &mut Link) {
    serve(Bed::uring().expect("probed outside"), link);
}

fn mio_server(link: &mut Link) {
    serve(Bed::mio(), link);
}

#[test]
fn uring() {
    if Bed::uring().is_some() {
        two_hosts("source_address::uring", uring_server, client);
    }
}

#[test]
fn mio() {
    two_hosts("source_address::mio", mio_server, client);
}
