//! An endpoint on an interface that this host does not have is reported to its peers.
use crate::common::Bed;
use crate::common::caller::{self, Call};
use shardgram::{Config, Endpoint, Interface, PeerError};

fn it_is_reported(bed: Bed) {
    let mut call = Call::start(bed, Config::new());
    let names = [Interface::named("no-such-one").unwrap(), Interface::index(u32::MAX).unwrap()];
    for interface in names {
        let endpoint = Endpoint::bound("127.0.0.1:0".parse().unwrap()).on_interface(interface);
        let (_, lost) = call.open(endpoint, ([127, 0, 0, 1], 9).into(), b"hello");
        // ENODEV, then EBADF for what was sent along it.
        for errno in [19, 9] {
            let error = PeerError::NotOpened { errno };
            assert_eq!(call.next(), caller::Seen::Error { peer: lost, error });
        }
    }
    assert_eq!(call.drain().send_failed_other, 2);
}

on_all_drivers!(it_is_reported);
