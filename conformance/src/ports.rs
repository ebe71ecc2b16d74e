//! Port 0 takes one free port for all shards; a port that anyone else holds is refused; that of a server that has
//! drained is free at once.
use super::handlers::Where;
use super::{Bed, Echo, both_families, loopback};
use shardgram_core::Config;
use shardgram_core::flow::flow_shard;

const SHARDS: u16 = 4;

pub fn every_flow_is_answered_by_the_shard_that_owns_it<B: Bed>(mut bed: B) {
    let server = bed.serve(both_families().shards(SHARDS), |_| Where);
    let addresses = bed.addresses(&server);
    assert!(addresses.iter().all(|at| at.port() != 0));
    let mut seen = [0; SHARDS as usize];
    for at in addresses {
        for _ in 0..100 {
            let peer = bed.peer(at);
            let owner = flow_shard(bed.address_of(&peer), SHARDS);
            assert_eq!(bed.ask(&peer, at, b"?"), owner.to_be_bytes());
            seen[usize::from(owner)] += 1;
        }
    }
    assert!(seen.iter().all(|n| *n > 0), "200 flows use all shards: {seen:?}");
    let stats = bed.drain(server);
    assert_eq!((stats.stateless, stats.forwarded_out), (200, stats.forwarded_in));
}

pub fn two_servers_get_two_ports<B: Bed>(mut bed: B) {
    let one = bed.serve(loopback().shards(2), |_| Where);
    let two = bed.serve(loopback().shards(2), |_| Where);
    assert_ne!(bed.address(&one), bed.address(&two));
    bed.drain(one);
    bed.drain(two);
}

fn refused<B: Bed>(bed: &mut B, config: Config) {
    let why = bed.try_serve(config.shards(2), |_| Echo).err().expect("somebody has it");
    assert!(why.contains("in use") && !why.contains('\n'), "{why}");
}

pub fn a_held_port_is_refused<B: Bed>(mut bed: B) {
    for like in ["127.0.0.1:0", "[::1]:0"] {
        let holder = bed.peer(like.parse().unwrap());
        let at = bed.address_of(&holder);
        refused(&mut bed, Config::new().listen(at));
        bed.close(holder);
    }
}

pub fn another_server_is_refused_and_the_first_goes_on<B: Bed>(mut bed: B) {
    let server = bed.serve(loopback().shards(2), |_| Echo);
    let at = bed.address(&server);
    refused(&mut bed, Config::new().listen(at));
    let peer = bed.peer(at);
    assert_eq!(bed.ask(&peer, at, b"still there"), b"still there");
    bed.drain(server);
}

pub fn nothing_is_left_bound_when_a_later_address_fails<B: Bed>(mut bed: B) {
    let holder = bed.peer("127.0.0.1:0".parse().unwrap());
    let held = bed.address_of(&holder);
    let free = bed.quiet_addresses(1)[0];
    refused(&mut bed, Config::new().listen(free).listen(held));
    assert!(bed.is_free(free), "the first address is free again");
}

pub fn a_drained_servers_port_is_free_at_once<B: Bed>(mut bed: B) {
    let mut config = loopback().shards(2);
    for _ in 0..20 {
        let server = bed.serve(config, |_| Echo);
        let at = bed.address(&server);
        let peer = bed.peer(at);
        assert_eq!(bed.ask(&peer, at, b"x"), b"x", "it serves");
        bed.drain(server);
        config = Config::new().listen(at).shards(2);
    }
}
