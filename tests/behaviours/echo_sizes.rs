//! Every size of datagram comes back byte for byte, over IPv4 and IPv6.
use crate::common::handlers::Echo;
use crate::common::{Bed, loopback, pattern};
use shardgram::Config;

const SIZES: [usize; 7] = [0, 1, 1472, 9000, 65_507, 0, 1];

fn over_ipv4(mut bed: Bed) {
    let server = bed.serve(loopback().shards(2), |_| Echo);
    let at = bed.address(&server);
    check(&mut bed, at);
    let stats = bed.drain(server);
    assert_eq!((stats.received, stats.sent()), (21, 21));
}

fn over_ipv6(mut bed: Bed) {
    let config = Config::new().listen("[::1]:0".parse().unwrap()).shards(2);
    let server = bed.serve(config, |_| Echo);
    let at = bed.address(&server);
    check(&mut bed, at);
    bed.drain(server);
}

fn over_both_wildcards_on_one_port(mut bed: Bed) {
    let server = bed.serve(Config::new().listen("0.0.0.0:0".parse().unwrap()), |_| Echo);
    let port = bed.address(&server).port();
    let second = bed.serve(Config::new().listen(([0_u16; 8], port).into()), |_| Echo);
    check(&mut bed, ([127, 0, 0, 1], port).into());
    check(&mut bed, format!("[::1]:{port}").parse().unwrap());
    bed.drain(server);
    bed.drain(second);
}

fn check(bed: &mut Bed, server: std::net::SocketAddr) {
    for _ in 0..3 {
        let peer = bed.peer(server);
        for size in SIZES {
            let sent = pattern(size);
            assert!(bed.ask(&peer, server, &sent) == sent, "{size} bytes came back changed");
        }
    }
}

on_all_drivers!(over_ipv4, over_ipv6, over_both_wildcards_on_one_port);
