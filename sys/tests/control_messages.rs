//! Control messages: what is built is parsed, what the kernel sends is parsed, and nothing forged
//! breaks the parser.
#![cfg(target_os = "linux")]

mod support;

use std::net::{IpAddr, UdpSocket};
use std::time::{Duration, SystemTime};

use shardgram_sys::{
    Control, ControlBuilder, ControlSpace, ListenerGroup, RECV_CONTROL_SPACE, SocketOptions,
};

fn ip(text: &str) -> IpAddr {
    text.parse().expect(text)
}

#[test]
fn what_is_built_is_parsed() {
    let mut space = ControlSpace::new();
    let len = ControlBuilder::new(&mut space)
        .packet_info(ip("192.0.2.7"), 5)
        .segment_size(1200)
        .traffic_class(2, false)
        .finish();
    let control = Control::parse(&space.bytes()[..len]);
    assert_eq!(control.local, Some(ip("192.0.2.7")));
    assert_eq!(control.interface, 0, "an IPv4 source must not force the interface");

    for (local, interface) in [("fe80::7", 5), ("2001:db8::7", 0)] {
        let len = ControlBuilder::new(&mut space)
            .packet_info(ip(local), 5)
            .segment_size(1200)
            .traffic_class(0xb8 | 3, true)
            .finish();
        assert_eq!(len, 88, "the largest set of messages fills the space");
        let control = Control::parse(&space.bytes()[..len]);
        assert_eq!(control.local, Some(ip(local)));
        assert_eq!(control.interface, interface, "{local}");
        assert_eq!(control.ecn, Some(3));
        assert_eq!(control.segment_size, None, "UDP_SEGMENT is not UDP_GRO");
    }
    assert_eq!(ControlBuilder::new(&mut space).finish(), 0);
}

#[test]
fn a_multicast_destination_is_no_source() {
    let mut space = ControlSpace::new();
    let len = ControlBuilder::new(&mut space).packet_info(ip("ff02::1"), 0).finish();
    let control = Control::parse(&space.bytes()[..len]);
    assert_eq!((control.destination, control.local), (Some(ip("ff02::1")), None));
}

#[test]
fn any_alignment_and_any_cut_is_read_alike() {
    let mut space = ControlSpace::new();
    let len =
        ControlBuilder::new(&mut space).packet_info(ip("2001:db8::7"), 0).traffic_class(1, true).finish();
    let whole = Control::parse(&space.bytes()[..len]);
    let mut shifted = [0u8; 128];
    for shift in 0..16 {
        shifted[shift..shift + len].copy_from_slice(&space.bytes()[..len]);
        assert_eq!(Control::parse(&shifted[shift..shift + len]), whole);
        for cut in 0..len {
            let _ = Control::parse(&shifted[shift..shift + cut]);
        }
    }
}

#[test]
fn forged_lengths_end_the_reading() {
    let mut space = ControlSpace::new();
    let len = ControlBuilder::new(&mut space).packet_info(ip("192.0.2.7"), 0).finish();
    for forged in [0usize, 1, 15, len + 1, usize::MAX, usize::MAX - 7, usize::MAX / 2, isize::MAX as usize] {
        let mut bytes = space.bytes()[..len].to_vec();
        bytes[..size_of::<usize>()].copy_from_slice(&forged.to_ne_bytes());
        assert_eq!(Control::parse(&bytes), Control::default(), "length {forged}");
    }
}

#[test]
fn random_bytes_never_panic() {
    let mut random = support::Random::seeded("--test control_messages");
    let known = [
        (libc::SOL_IP, libc::IP_PKTINFO),
        (libc::SOL_IPV6, libc::IPV6_PKTINFO),
        (libc::SOL_UDP, libc::UDP_GRO),
        (libc::SOL_IP, libc::IP_TOS),
        (libc::SOL_IPV6, libc::IPV6_TCLASS),
        (libc::SOL_SOCKET, libc::SCM_TIMESTAMPNS),
    ];
    let mut bytes = [0u8; 160];
    for _ in 0..200_000 {
        random.fill(&mut bytes);
        // Mostly plausible headers, so that reading gets past the first one.
        let mut at = 0;
        while at + 16 <= bytes.len() && random.below(8) != 0 {
            let len = random.below(48);
            let (level, kind) = known[random.below(known.len())];
            bytes[at..at + 8].copy_from_slice(&len.to_ne_bytes());
            bytes[at + 8..at + 12].copy_from_slice(&level.to_ne_bytes());
            bytes[at + 12..at + 16].copy_from_slice(&kind.to_ne_bytes());
            at += len.next_multiple_of(8).max(8);
        }
        let (start, len) = (random.below(8), random.below(152));
        let control = Control::parse(&bytes[start..start + len]);
        assert!(control.ecn.is_none_or(|ecn| ecn <= 3));
        assert!(control.segment_size != Some(0));
    }
}

#[test]
fn the_kernel_says_everything_at_once() {
    let families = [("0.0.0.0:0", false), ("[::]:0", true)];
    for (bind, ipv6) in families.into_iter().filter(|family| support::here(family.0)) {
        let options = SocketOptions {
            receive_trains: true,
            ecn: true,
            receive_timestamps: true,
            ..SocketOptions::default()
        };
        let mut group = ListenerGroup::bind(bind.parse().expect(bind), 1, &options).expect("group");
        let server = group.take_sockets().remove(0);

        let local = ip(if ipv6 { "::1" } else { "127.0.0.1" });
        let client = UdpSocket::bind((local, 0)).expect("client");
        let mut space = ControlSpace::new();
        let len = ControlBuilder::new(&mut space).segment_size(100).traffic_class(2, ipv6).finish();
        let to = (local, group.local_addr().port()).into();
        support::send(&client, &[7; 950], to, &mut space, len).expect("send");

        let received = support::receive(&server).expect("receive");
        assert_eq!(received.payload.len(), 950, "one train");
        assert_eq!(received.flags & libc::MSG_CTRUNC, 0, "{RECV_CONTROL_SPACE} bytes are enough");
        assert_eq!(received.control.segment_size, Some(100));
        assert_eq!(received.control.ecn, Some(2));
        assert_eq!(received.control.local, Some(local));
        assert_eq!(received.control.destination, Some(local));
        assert_ne!(received.control.interface, 0);
        let now = SystemTime::UNIX_EPOCH.elapsed().expect("clock");
        let age = now.abs_diff(received.control.time.expect("a timestamp"));
        assert!(age < Duration::from_secs(60), "{age:?}");
    }
}
