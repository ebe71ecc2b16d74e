//! Where a sandbox refuses the socket option without which mio's datagrams say nothing beside their payload: what was asked
//! for and takes more is refused when the server is bound, defaults are served otherwise with a warning, and no capability
//! is claimed that is not there.

use std::io::IoSlice;
use std::net::UdpSocket;

use crate::common::caller::{Call, Seen};
use crate::common::{Bed, loopback, seccomp};
use shardgram::{Backend, Capability, Config, Server, StartError};
use shardgram_sys::{Heading, send_message};

const WARNING: &str = "a socket option for packet info is refused";

fn mio() -> Config {
    // Buffers that every host grants.
    loopback().backend(Backend::Mio).receive_socket_bytes(64 << 10).send_socket_bytes(64 << 10)
}

/// Filters stay with their thread and what it starts.
fn where_it_is_refused(test: impl FnOnce() + Send + 'static) {
    let alone = move || {
        seccomp::refuse_option(libc::SOL_IP, libc::IP_PKTINFO, libc::ENOPROTOOPT).expect("a filter");
        test();
    };
    std::thread::spawn(alone).join().expect("the test on its thread");
}

fn able(call: &mut Call) -> Vec<Capability> {
    let told = call.run(0, |cx| cx.io.capabilities());
    Capability::ALL.into_iter().filter(|one| told.has(*one)).collect()
}

#[test]
fn what_was_asked_for_is_refused_at_bind() {
    let asked = || [("ecn", mio().ecn(true)), ("receive_timestamps", mio().receive_timestamps(true))];
    for (_, config) in asked() {
        assert_eq!(Server::bind(config).expect("it binds").warnings(), [""; 0], "where nothing is refused");
    }
    where_it_is_refused(move || {
        for (setting, config) in asked() {
            let error = Server::bind(config).expect_err(setting);
            let text = error.to_string();
            assert!(matches!(error, StartError::Unsupported(error) if error.setting == setting), "{text}");
            assert!(text.contains(WARNING) && text.contains("leave it off"), "{text}");
        }
        let client = Config::new().backend(Backend::Mio);
        let v6 = Server::bind(client.clone()).expect("endpoints of the other family have it");
        assert_eq!(v6.warnings(), [""; 0]);
    });
}

#[test]
fn what_is_not_there_is_not_claimed() {
    let mut whole = Call::start(Bed::mio(), mio());
    let all = able(&mut whole);
    whole.drain();
    where_it_is_refused(move || {
        let server = Server::bind(mio()).expect("it binds");
        let [warning] = server.warnings() else { panic!("{:?}", server.warnings()) };
        assert!(warning.contains(WARNING), "{warning}");
        drop(server);
        let mut call = Call::start(Bed::mio(), mio());
        let lost = [Capability::TrainsIn, Capability::EcnIn, Capability::Timestamps];
        let left: Vec<_> = all.into_iter().filter(|one| !lost.contains(one)).collect();
        assert_eq!(able(&mut call), left);
        // A train comes as its datagrams, since nobody would say how long they are.
        let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
        let to = call.bed.address(&call.server);
        let heading = Heading { to, from: None, segment: Some(100), traffic_class: None };
        send_message(&peer, &heading, &[IoSlice::new(&[0; 300])]).expect("sent");
        for _ in 0..3 {
            assert_eq!(call.next(), Seen::Stranger { remote: peer.local_addr().unwrap() });
        }
        assert_eq!(call.drain().received_bytes, 300);
        // Without a listener an endpoint of the family may be opened.
        let mut client = Call::start(Bed::mio(), Config::new());
        assert!(!able(&mut client).contains(&Capability::EcnIn));
        client.drain();
    });
}
