use super::*;
use crate::types::datagram::SocketId;

fn addr(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

fn host(all: &[&str]) -> HostAddresses {
    HostAddresses::new(all.iter().map(|ip| (ip.parse().expect("an address"), 0)))
        .broadcasts([[10, 0, 0, 255].into()])
        .all_of_loopback()
}

fn known(listen: &[&str], all: &[&str]) -> (Arc<OwnAddresses>, Known) {
    let own = Arc::new(OwnAddresses::default());
    own.listen(&listen.iter().map(|at| addr(at)).collect::<Vec<_>>());
    own.host_has(host(all));
    (Arc::clone(&own), Known::new(own))
}

fn unfit(known: &mut Known, remote: &str, local: &str) -> Option<Unfit> {
    let path = Path { local: addr(local), remote: addr(remote), socket: SocketId::listener(0) };
    known.unfit(&path, None, Instant::now())
}

const ALL: [&str; 2] = ["0.0.0.0:9000", "[::]:9001"];

#[test]
fn every_listener_of_the_process_is_known() {
    let listen = ["0.0.0.0:9000", "[::]:9000", "10.0.0.1:9001", "[fe80::1%3]:9002"];
    let (own, mut known) = known(&listen, &["10.0.0.1", "10.0.0.2", "fd00::1"]);
    let local = "10.0.0.1:9000";
    let cases = [
        ("10.0.0.1:9000", Some(Unfit::Own)),
        ("10.0.0.2:9000", Some(Unfit::Own)),
        ("127.9.9.9:9000", Some(Unfit::Own)),
        ("[fd00::1]:9000", Some(Unfit::Own)),
        ("[::ffff:10.0.0.2]:9000", Some(Unfit::Own)),
        ("[::ffff:127.0.0.1]:9000", Some(Unfit::Own)),
        ("10.0.0.1:9001", Some(Unfit::Own)),
        ("[fe80::1%3]:9002", Some(Unfit::Own)),
        ("[fe80::1%4]:9002", None),
        ("10.0.0.2:9001", None),
        ("10.0.0.3:9000", None),
        ("10.0.0.1:9003", None),
        ("0.0.0.0:5", Some(Unfit::NoHost)),
        ("[::]:5", Some(Unfit::NoHost)),
        ("[::ffff:0.0.0.0]:5", Some(Unfit::NoHost)),
        ("224.0.0.1:5", Some(Unfit::NoHost)),
        ("[ff02::1]:5", Some(Unfit::NoHost)),
        ("[::ffff:224.0.0.1]:5", Some(Unfit::NoHost)),
        ("255.255.255.255:5", Some(Unfit::NoHost)),
        ("10.0.0.255:5", Some(Unfit::NoHost)),
        ("10.0.1.255:5", None),
    ];
    for (remote, expected) in cases {
        assert_eq!(unfit(&mut known, remote, local), expected, "{remote}");
    }
    // An endpoint is none of the listeners, but for what it receives itself.
    let mut at_endpoint = |bound: &str, remote: &str| {
        let socket = SocketId::endpoint(0, 0);
        let path = Path { local: addr("10.0.0.1:0"), remote: addr(remote), socket };
        known.unfit(&path, Some(addr(bound)), Instant::now())
    };
    for (bound, remote, expected) in [
        ("10.0.0.1:77", "10.0.0.1:77", Some(Unfit::Own)),
        ("10.0.0.1:77", "10.0.0.2:77", None),
        ("0.0.0.0:77", "10.0.0.2:77", Some(Unfit::Own)),
        ("0.0.0.0:77", "10.0.0.2:78", None),
        ("0.0.0.0:77", "10.0.0.2:9000", Some(Unfit::Own)),
    ] {
        assert_eq!(at_endpoint(bound, remote), expected, "{remote} at {bound}");
    }
    own.leave(&[addr("0.0.0.0:9000")]);
    assert_eq!(unfit(&mut known, "10.0.0.1:9000", local), None);
}

#[test]
fn what_was_sent_to_is_this_hosts_whatever_the_list_says() {
    let (own, mut known) = known(&ALL, &[]);
    assert_eq!(unfit(&mut known, "192.0.2.1:9000", "192.0.2.1:9000"), Some(Unfit::Own));
    assert_eq!(unfit(&mut known, "192.0.2.2:9000", "192.0.2.1:9000"), None);
    let mut other_shard = Known::new(Arc::clone(&own));
    assert_eq!(unfit(&mut other_shard, "192.0.2.1:9000", "192.0.2.2:9000"), Some(Unfit::Own));
    // When the host's addresses change it may have become another's.
    own.host_has(host(&["10.0.0.9"]));
    assert_eq!(unfit(&mut known, "192.0.2.1:9000", "10.0.0.9:9000"), None);
}

#[test]
fn shards_list_where_nobody_watches_and_once_a_second_at_most() {
    let counted = Arc::new(AtomicU64::new(0));
    let counts = Arc::clone(&counted);
    let own = OwnAddresses::new((1, 2)).lister(Box::new(move || {
        let nth = counts.fetch_add(1, Ordering::Relaxed);
        Some(host(if nth == 0 { &[] } else { &["10.0.0.1"] }))
    }));
    own.listen(&[addr(ALL[0])]);
    let own = Arc::new(own);
    let mut known = Known::new(Arc::clone(&own));
    let start = Instant::now();
    let path =
        Path { local: addr("10.0.0.2:9000"), remote: addr("10.0.0.1:9000"), socket: SocketId::listener(0) };
    let other = Path { remote: addr("10.0.0.1:9009"), ..path };
    assert_eq!(known.unfit(&other, None, start), None);
    assert_eq!(counted.load(Ordering::Relaxed), 0, "another port");
    for (after, expected, lists) in [(0, None, 1), (999, None, 1), (1_000, Some(Unfit::Own), 2)] {
        let now = start + Duration::from_millis(after);
        assert_eq!(known.unfit(&path, None, now), expected, "after {after} ms");
        assert_eq!(counted.load(Ordering::Relaxed), lists, "after {after} ms");
    }
    own.watched(true);
    let unknown = Path { remote: addr("10.0.0.7:9000"), ..path };
    assert_eq!(known.unfit(&unknown, None, start + Duration::from_secs(9)), None);
    assert_eq!(counted.load(Ordering::Relaxed), 2, "somebody watches");
}

#[test]
fn what_is_seen_is_bounded() {
    let (own, mut known) = known(&ALL, &[]);
    for n in 0..100_000_u32 {
        own.see(IpAddr::V4(Ipv4Addr::from_bits(0x0b00_0000 + n)));
    }
    let last = Ipv4Addr::from_bits(0x0b00_0000 + 99_999);
    assert_eq!(unfit(&mut known, &format!("{last}:9000"), "11.0.0.1:9000"), Some(Unfit::Own));
    let others = Ipv4Addr::from_bits(0x0c00_0000);
    assert_eq!(unfit(&mut known, &format!("{others}:9000"), "11.0.0.1:9000"), None);
}
