//! A group is heard by every shard or by one, whether the configuration has it joined or a handler: whose its senders are
//! would depend on the way by which they write.
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use crate::common::Bed;
use crate::common::caller::Call;
use shardgram::{Config, Endpoint, Interface, Io, JoinError, Membership, Via};

const ANYWHERE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);

fn group(last: u8) -> Membership {
    Membership::any_source([239, 77, 1, last]).on(Interface::of(Ipv4Addr::LOCALHOST))
}

fn mixed(last: u8) -> Result<(), JoinError> {
    Err(JoinError::MixedHearers { group: [239, 77, 1, last].into() })
}

fn start(bed: Bed, config: Config) -> Call {
    Call::start(bed, config.listen(ANYWHERE).listen(ANYWHERE).shards(2))
}

/// The listener of this number.
fn via<H: shardgram::Handler>(io: &Io<H>, number: usize) -> Via {
    Via::Listener(io.listeners()[number])
}

fn what_the_configuration_joins_stands(bed: Bed) {
    let mut call = start(bed, Config::new().join(group(1).shard(1)).join(group(2).every_shard()));
    // Of a shard that has not joined the group, and of one that has; left meanwhile or not.
    for shard in [0, 1] {
        call.run(shard, |cx| {
            let via = via(cx.io, 0);
            assert_eq!(cx.io.join(via, group(1).every_shard()), mixed(1));
            assert_eq!(cx.io.join(via, group(2)), mixed(2));
            cx.io.leave(via, group(2)).expect("it was joined");
            assert_eq!(cx.io.join(via, group(2)), mixed(2));
            cx.io.join(via, group(2).every_shard()).expect("as it was");
        });
    }
    call.drain();
}

fn what_a_handler_joins_stands_until_it_is_left(bed: Bed) {
    let mut call = start(bed, Config::new());
    call.run(0, |cx| {
        let (first, second) = (via(cx.io, 0), via(cx.io, 1));
        cx.io.join(first, group(1)).expect("nobody has joined it");
        cx.io.join(first, group(2).every_shard()).expect("nobody has joined it");
        // What is not carried out yet, by whichever listener.
        assert_eq!(cx.io.join(second, group(1).every_shard()), mixed(1));
        assert_eq!(cx.io.join(second, group(2)), mixed(2));
        cx.io.join(second, group(1)).expect("one as before");
    });
    call.run(0, |cx| {
        let (first, second) = (via(cx.io, 0), via(cx.io, 1));
        assert_eq!(cx.io.join(first, group(1).every_shard()), mixed(1));
        assert_eq!(cx.io.join(second, group(2)), mixed(2));
        // The other listener has it still.
        cx.io.leave(first, group(1)).expect("it was joined");
        assert_eq!(cx.io.join(first, group(1).every_shard()), mixed(1));
        cx.io.leave(second, group(1)).expect("it was joined");
        cx.io.join(first, group(1).every_shard()).expect("nobody has it any more");
        assert_eq!(cx.io.join(second, group(1)), mixed(1));
    });
    call.run(0, |cx| assert_eq!(cx.io.join(via(cx.io, 1), group(1)), mixed(1)));
    call.drain();
}

/// What comes by an endpoint is handled where it is received, whatever the membership says.
fn endpoints_hear_beside_them(bed: Bed) {
    let mut call = start(bed, Config::new().join(group(1).every_shard()));
    call.run(0, |cx| {
        let endpoint = cx.io.endpoint(Endpoint::bound(ANYWHERE).any_source(true)).expect("room");
        for _ in 0..2 {
            cx.io.join(Via::Endpoint(endpoint), group(1)).expect("an endpoint's");
            cx.io.join(Via::Endpoint(endpoint), group(2)).expect("an endpoint's");
            cx.io.leave(Via::Endpoint(endpoint), group(1)).expect("an endpoint's");
            cx.io.leave(Via::Endpoint(endpoint), group(2)).expect("an endpoint's");
        }
        cx.io.join(Via::Endpoint(endpoint), group(2)).expect("an endpoint's");
        cx.io.join(via(cx.io, 0), group(2).every_shard()).expect("a listener's");
    });
    call.drain();
}

on_all_drivers!(
    what_the_configuration_joins_stands,
    what_a_handler_joins_stands_until_it_is_left,
    endpoints_hear_beside_them
);
