//! Every size of datagram comes back byte for byte, over IPv4 and IPv6.
use super::{Bed, Echo, both_families, loopback, pattern};
use shardgram_core::Config;

const SIZES: [usize; 7] = [0, 1, 1472, 9000, 65_507, 0, 1];

pub fn over_ipv4<B: Bed>(mut bed: B) {
    let server = bed.serve(loopback().shards(2), |_| Echo);
    let at = bed.address(&server);
    check(&mut bed, at);
    let stats = bed.drain(server);
    assert_eq!((stats.received, stats.sent()), (21, 21));
}

pub fn over_ipv6<B: Bed>(mut bed: B) {
    let config = Config::new().listen("[::1]:0".parse().unwrap()).shards(2);
    let server = bed.serve(config, |_| Echo);
    let at = bed.address(&server);
    check(&mut bed, at);
    bed.drain(server);
}

pub fn over_both_wildcards_on_one_port<B: Bed>(mut bed: B) {
    let server = bed.serve(Config::new().listen("0.0.0.0:0".parse().unwrap()), |_| Echo);
    let port = bed.address(&server).port();
    let second = bed.serve(Config::new().listen(([0_u16; 8], port).into()), |_| Echo);
    check(&mut bed, ([127, 0, 0, 1], port).into());
    check(&mut bed, format!("[::1]:{port}").parse().unwrap());
    bed.drain(server);
    bed.drain(second);
}

fn check<B: Bed>(bed: &mut B, server: std::net::SocketAddr) {
    for _ in 0..3 {
        let peer = bed.peer(server);
        for size in SIZES {
            let sent = pattern(size);
            assert!(bed.ask(&peer, server, &sent) == sent, "{size} bytes came back changed");
        }
    }
}

pub fn at_every_edge<B: Bed>(mut bed: B) {
    const KEPT: usize = 1000;
    // Buffers for the longest, and for less than most of them.
    for config in
        [both_families().max_datagram(65_527), both_families(), both_families().max_datagram(KEPT as u32)]
    {
        let room = config.settings().max_datagram as usize;
        let server = bed.serve(config, |_| Echo);
        let (mut sent, mut cut) = (0, 0);
        for at in bed.addresses(&server) {
            let peer = bed.peer(at);
            // RFC 768 has 16 bits of length; with IPv4 the IP header counts too (RFC 791).
            let longest = if at.is_ipv4() { 65_507 } else { 65_527 };
            for size in [0, 1, KEPT - 1, KEPT, KEPT + 1, 1_472, 9_000, 65_506, 65_507, longest, 0] {
                let whole = pattern(size);
                assert_eq!(bed.ask(&peer, at, &whole), whole[..size.min(room)], "{size} bytes to {at}");
                sent += 1;
                cut += u64::from(size > room);
            }
        }
        let stats = bed.drain(server);
        assert_eq!((stats.received, stats.sent(), stats.truncated), (sent, sent, cut), "{stats:?}");
        assert_eq!((stats.restarts, stats.kernel_dropped, stats.send_failed()), (0, 0, 0), "{stats:?}");
    }
}
