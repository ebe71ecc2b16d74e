//! Settings that were asked for and cannot be had are refused when the server is bound, with the reason and a remedy;
//! what only a default asks for is served otherwise, and said.

use crate::common::{Bed, loopback, skip};
use shardgram::{
    AcceptChoice, AffinityError, Backend, BindError, Config, Interface, JoinError, PathMtu, Receivers,
    Server, StartError, TierPolicy,
};

fn refused(config: Config) -> StartError {
    let error = Server::bind(config).expect_err("it cannot be had");
    let text = error.to_string();
    assert!(!text.contains('\n') && !text.contains("  "), "{text}");
    error
}

#[test]
fn one_receiver_with_io_uring() {
    let error = refused(loopback().shards(2).receivers(Receivers::One).backend(Backend::Uring));
    let text = error.to_string();
    assert!(matches!(error, StartError::BackendRefused { backend: Backend::Uring, .. }), "{text}");
    assert!(text.contains("receivers=one") && text.contains("ask for receivers=auto"), "{text}");
    // The backend is ours to choose if nobody else did.
    let server = Server::bind(loopback().shards(2).receivers(Receivers::One)).expect("it binds");
    assert_eq!((server.backend(), server.fallback_reason()), (Backend::Mio, Some("receivers:one")));
}

#[test]
fn receivers_on_every_shard_where_the_system_balances() {
    if Bed::uring().is_none() {
        return;
    }
    for backend in [Backend::Uring, Backend::Mio] {
        let config = loopback().shards(2).receivers(Receivers::PerShard).backend(backend);
        assert!(Server::bind(config).is_ok(), "{backend}");
    }
}

#[test]
fn multicasts_by_an_interface_that_is_not_there() {
    let interface = Interface::named("no-such-one").expect("a name");
    for config in [Config::new(), Config::new().listen(([0, 0, 0, 0], 0).into())] {
        let error = refused(config.multicast_interface(interface));
        let StartError::Bind(BindError::ToGroups { source, .. }) = &error else { panic!("{error}") };
        assert_eq!(*source, JoinError::UnknownInterface(interface));
    }
}

#[test]
fn tiers_where_peers_have_no_sockets_of_their_own() {
    for tier in [TierPolicy::Connected, TierPolicy::Adaptive] {
        for config in [loopback().backend(Backend::Mio), loopback().receivers(Receivers::One)] {
            let error = refused(config.tier(tier));
            let text = error.to_string();
            assert!(matches!(error, StartError::TierRefused { tier: asked, .. } if asked == tier), "{text}");
            assert!(text.starts_with(&format!("tier={tier} was asked for and cannot be had")), "{text}");
            assert!(text.ends_with("ask for the tier listener"), "{text}");
        }
        let nobody = loopback().backend(Backend::Mio).tier(tier).max_connected(0);
        assert!(Server::bind(nobody).is_ok(), "nobody is to have one");
        let client = Config::new().backend(Backend::Mio).tier(tier);
        assert!(Server::bind(client).is_ok(), "without listeners nobody needs one");
    }
    let error = refused(loopback().backend(Backend::Mio).accept(AcceptChoice::SideGroup));
    assert!(matches!(error, StartError::AcceptRefused { accept: AcceptChoice::SideGroup, .. }), "{error}");
    let server = Server::bind(loopback().backend(Backend::Mio)).expect("it binds");
    assert!(server.ready_line().contains(" tier=listener"), "the default says what it comes to");
}

#[test]
fn an_address_beside_the_wildcard_that_covers_it() {
    let listen =
        |all: [&str; 2]| all.iter().fold(Config::new(), |config, at| config.listen(at.parse().unwrap()));
    for all in [["0.0.0.0:47011", "127.0.0.1:47011"], ["127.0.0.1:47011", "0.0.0.0:47011"]] {
        for backend in [Backend::Auto, Backend::Mio] {
            let error = refused(listen(all).backend(backend));
            let text = error.to_string();
            assert!(matches!(error, StartError::Bind(BindError::Covered { .. })), "{text}");
            assert!(text.contains("listen on the wildcard alone"), "{text}");
        }
    }
}

#[test]
fn cores_that_are_not_there_or_cannot_be_had() {
    let error = refused(loopback().cores([usize::MAX]));
    assert!(matches!(error, StartError::Core(AffinityError::NoSuchCore { .. })), "{error}");
    let before = shardgram_sys::affinity::available_cores();
    let Some(&last) = before.last() else {
        skip::record("this system does not say which cores it has");
        return;
    };
    assert!(Server::bind(loopback().cores([last])).is_ok());
    assert_eq!(shardgram_sys::affinity::available_cores(), before, "the thread that binds is not pinned");
}

/// On this system all of it can be had; what cannot on others is shown by the plan of `sys/`.
#[test]
fn what_this_system_can_do_is_not_refused() {
    let modes = [PathMtu::System, PathMtu::Refuse, PathMtu::Probe, PathMtu::Fragment];
    for mode in modes {
        // Buffers that every host grants.
        let config = loopback().receive_socket_bytes(64 << 10).send_socket_bytes(64 << 10);
        let config = config.ecn(true).path_mtu(mode).backend(Backend::Mio);
        let server = Server::bind(config.clone()).expect("it binds");
        assert_eq!(server.warnings(), Vec::<String>::new(), "{mode}");
        let both = Server::bind(config.receive_timestamps(true)).expect("it binds");
        assert_eq!(both.warnings(), Vec::<String>::new(), "{mode}");
    }
}
