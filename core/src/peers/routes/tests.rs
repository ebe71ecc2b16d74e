use std::net::Ipv4Addr;

use super::*;
use crate::peers::states::Peers;
use crate::types::datagram::SocketId;
use std::collections::HashMap;

fn path(n: u32) -> Path {
    let ip = Ipv4Addr::from(0x0a00_0000 | n >> 4);
    Path {
        local: "10.0.0.1:9".parse().expect("an address"),
        remote: (ip, 1000 + (n & 15) as u16).into(),
        socket: SocketId::listener(0),
    }
}

#[test]
fn a_table_agrees_with_a_map_through_random_churn() {
    let seed = 42_u64;
    let (mut peers, mut routes) = (Peers::new(0, 500), Routes::new(0, 500, 0, 1, (1, 2)));
    let mut model: HashMap<Path, PeerId> = HashMap::new();
    let mut x = seed;
    for _ in 0..if cfg!(miri) { 500 } else { 200_000 } {
        x = x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let path = path((x >> 33) as u32 % 700);
        match model.get(&path) {
            Some(peer) if x >> 63 == 1 => {
                assert!(routes.remove(*peer, |_| ()).is_some(), "seed {seed}");
                peers.remove(*peer);
                model.remove(&path);
            }
            Some(peer) => assert_eq!(routes.find(&path), Some(peer.slot()), "seed {seed}"),
            None => {
                assert_eq!(routes.find(&path), None, "seed {seed}");
                if let Ok(peer) = peers.insert(()) {
                    assert!(routes.insert(peer, path, 0, Standing::New), "seed {seed}");
                    model.insert(path, peer);
                } else {
                    assert_eq!(model.len(), 500, "seed {seed}");
                }
            }
        }
    }
}

#[test]
fn a_path_comes_back_as_it_went_in() {
    for (local, remote) in [
        ("10.1.2.3:4", "192.0.2.255:65535"),
        ("[2001:db8::1]:53", "[fe80::1:2:3:4%7]:9"),
        ("0.0.0.0:0", "1.2.3.4:5"),
    ] {
        let socket = SocketId::endpoint(77, 0);
        let (local, remote) = (local.parse().expect(local), remote.parse().expect(remote));
        let path = Path { local, remote, socket };
        assert_eq!(PathRecord::new(&path, 0, 0).path(), path);
    }
}

#[test]
fn paths_of_one_peer_are_bounded_and_go_with_it() {
    let (mut peers, mut routes) = (Peers::new(0, 8), Routes::new(0, 8, 0, 2, (1, 2)));
    let peer = peers.insert(()).expect("room");
    assert!(routes.insert(peer, path(0), 0, Standing::New));
    assert_eq!(routes.add_path(peer, path(2)), AddPath::Added { lost: None });
    let lost = Some(SocketId::listener(0));
    assert_eq!(routes.add_path(peer, path(1)), AddPath::Added { lost }, "in place of the unused one");
    assert_eq!(routes.find(&path(2)), None);
    assert_eq!(routes.active_path(peer), Some(path(0)));
    assert_eq!(routes.use_path(peer, &path(1)), Some(true));
    assert_eq!(routes.use_path(peer, &path(1)), Some(false));
    assert_eq!(routes.use_path(peer, &path(2)), None);
    assert_eq!(routes.active_path(peer), Some(path(1)));
    assert!(routes.remove(peer, |_| ()).is_some());
    assert_eq!((routes.find(&path(0)), routes.find(&path(1))), (None, None));
    assert_eq!(routes.add_path(peer, path(3)), AddPath::Gone);
}

#[test]
fn a_peer_without_a_path_is_sure_to_get_one() {
    // Nine records for eight peers.
    let (mut peers, mut routes) = (Peers::new(0, 8), Routes::new(0, 8, 0, 4, (1, 2)));
    let dialed: Vec<_> = (0..2).map(|_| peers.insert(()).expect("room")).collect();
    dialed.iter().for_each(|peer| routes.insert_without_path(*peer, 0, 7));
    let others: Vec<_> = (0..6).map(|_| peers.insert(()).expect("room")).collect();
    for (n, peer) in (0..).zip(&others) {
        assert!(!routes.is_full());
        assert!(routes.insert(*peer, path(n), 0, Standing::New));
    }
    assert_eq!(routes.add_path(others[0], path(100)), AddPath::Added { lost: None });
    assert!(routes.is_full(), "the other two are kept free");
    assert!(matches!(routes.add_path(others[0], path(101)), AddPath::Added { lost: Some(_) }));
    assert_eq!(routes.add_path(dialed[0], path(102)), AddPath::Gone);
    assert_eq!(routes.active_path(dialed[0]), None);
    assert_eq!(routes.get(dialed[0]).and_then(Route::dial), Some(7));

    assert!(routes.remove(dialed[1], |_| panic!("it has no path")).is_some());
    assert!(!routes.is_full());
    routes.replace_paths(dialed[0], path(103), 5, |_| panic!("it has no path"));
    assert_eq!(routes.active_path(dialed[0]), Some(path(103)));
    let mut left = 0;
    routes.replace_paths(dialed[0], path(104), 6, |_| left += 1);
    assert_eq!((left, routes.find(&path(103)), routes.find(&path(104))), (1, None, Some(dialed[0].slot())));
    assert_eq!(routes.get(dialed[0]).map(|route| route.last_seen), Some(6));
    assert!(!routes.is_full());

    // It may lose it again, and is as sure of another as it was of the first.
    routes.take_paths(dialed[0], |_| left += 1);
    routes.take_paths(dialed[0], |_| panic!("it has no path"));
    assert_eq!((left, routes.find(&path(104)), routes.active_path(dialed[0])), (2, None, None));
    assert!(!routes.is_full());
    peers.remove(dialed[1]);
    let another = peers.insert(()).expect("room");
    assert!(routes.insert(another, path(105), 0, Standing::New));
    assert!(routes.is_full(), "the last is kept free");
    routes.replace_paths(dialed[0], path(106), 7, |_| panic!("it has no path"));
    assert_eq!(routes.active_path(dialed[0]), Some(path(106)));
}

#[test]
fn a_peer_costs_at_most_256_bytes_beside_its_state() {
    // A table entry is four bytes, and there are at most 8/3 of them to a record.
    let per_path = size_of::<PathRecord>() + size_of::<u32>() + 4 * 8 / 3;
    assert_eq!(size_of::<Route>(), 64, "a line of cache");
    // Its slot's generation and the list of free slots, and its places in the lists of standings.
    let per_peer = size_of::<Route>() + 2 * size_of::<u32>() + size_of::<u32>() + 5 * size_of::<u32>();
    // A peer may use nine eighths of a path.
    assert!(per_path * 9 / 8 + per_peer <= 256, "{per_path} + {per_peer}");
}
