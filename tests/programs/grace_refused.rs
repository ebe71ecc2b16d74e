//! Where the kernel does not tell when its deliveries are over (membarrier(2), refused by a sandbox), sockets of peers that
//! were demoted or closed are closed all the same, later, and nothing is lost.

use crate::common::lab::{Lab, Welcome, loopback_of_both};
use crate::common::seccomp;

#[test]
fn sockets_are_closed_by_the_clock() {
    let serve = || {
        seccomp::refuse(libc::SYS_membarrier, libc::ENOSYS).expect("a filter");
        for config in loopback_of_both() {
            let Some(lab) = Lab::start(config, Welcome::Connect) else { return };
            come_and_go(lab);
        }
    };
    std::thread::spawn(serve).join().expect("the thread with the filter");
}

fn come_and_go(mut lab: Lab) {
    let at = lab.address();
    let clients = [(); 5].map(|()| lab.bed.peer(at));
    for round in 1..=3_u64 {
        for client in &clients {
            lab.bed.ask(client, at, b"ask");
        }
        let addresses: Vec<_> = clients.iter().map(crate::common::Peer::address).collect();
        lab.until_connected_to(at, &addresses);
        let close = round == 2;
        lab.run(0, move |subject, cx| {
            for peer in subject.known.values() {
                if close { cx.io.close(*peer) } else { cx.io.demote(*peer) }
            }
        });
        lab.until_connected_to(at, &[]);
        if round == 1 {
            // The next one is a new peer again, and connected.
            lab.run(0, |subject, cx| subject.known.values().for_each(|peer| cx.io.close(*peer)));
        }
    }
    let stats = lab.drain();
    assert_eq!((stats.received, stats.kernel_dropped, stats.promoted), (15, 0, 15), "{stats:?}");
}
