//! Where the kernel refuses the program that divides what comes to a port (a sandbox does), shards hand on what others own,
//! a warning says so, and no driver claims that they need not.

use std::net::UdpSocket;

use crate::common::caller::{Call, Seen};
use crate::common::{Bed, loopback, seccomp};
use shardgram::{Backend, Capability, Config, Server};

const SHARDS: u16 = 2;

fn warnings(backend: Backend, config: Config) -> Vec<String> {
    Server::bind(config.backend(backend)).expect("it binds").warnings().to_vec()
}

fn says_that_it_steers(call: &mut Call) -> bool {
    let of_each =
        [0, 1].map(|shard| call.run(shard, |cx| cx.io.capabilities().has(Capability::SteeredListeners)));
    assert_eq!(of_each[0], of_each[1]);
    of_each[0]
}

fn what_is_refused_is_not_claimed(bed: Bed) {
    let Bed::Real(backend) = bed else { unreachable!("a real driver") };
    let serve = move || {
        let several = || loopback().shards(SHARDS);
        let refused =
            |warnings: Vec<String>| warnings.iter().any(|line| line.contains("no steering program"));
        assert!(!refused(warnings(backend, several())));
        seccomp::refuse_option(libc::SOL_SOCKET, libc::SO_ATTACH_REUSEPORT_CBPF, libc::EPERM)
            .expect("a filter");
        assert!(refused(warnings(backend, several())));
        let mut call = Call::start(Bed::Real(backend), several());
        assert!(!says_that_it_steers(&mut call));
        assert!(call.run(0, |cx| cx.io.capabilities().has(Capability::BalancedListeners)));
        let at = call.bed.address(&call.server);
        for _ in 0..32 {
            let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
            assert_eq!(peer.send_to(b"who?", at).expect("sent"), 4);
            assert_eq!(call.next(), Seen::Stranger { remote: peer.local_addr().unwrap() });
        }
        let stats = call.drain();
        assert!(stats.forwarded_in > 0, "{stats:?}");
    };
    // Filters stay with their thread and what it starts.
    std::thread::spawn(serve).join().expect("no claim is wrong");
}

fn what_is_granted_is_claimed(bed: Bed) {
    let mut call = Call::start(bed, loopback().shards(SHARDS));
    assert!(says_that_it_steers(&mut call));
    call.drain();
}

on_real_drivers!(what_is_refused_is_not_claimed, what_is_granted_is_claimed);
