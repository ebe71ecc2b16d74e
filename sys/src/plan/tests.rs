use std::net::SocketAddr;

use shardgram_core::{PathMtu, Receivers};

use super::*;
use crate::SocketOptions;
use Step::{Bind, ExclusiveUse, NoReuseAddress, ReusePort, ReusePortBalanced, Steer};

/// Systems where nobody divides what comes to a port.
const UNBALANCED: [Os; 5] = [Os::OpenBsd, Os::NetBsd, Os::MacOs, Os::Windows, Os::Other];

fn shape(plan: &ListeningPlan) -> Vec<(Role, &'static [Step])> {
    plan.sockets.iter().map(|socket| (socket.role, socket.steps)).collect()
}

#[test]
fn who_receives_is_what_the_system_can_do() {
    for os in Os::ALL {
        let balanced = !UNBALANCED.contains(&os);
        let by_default = if balanced { Sharing::PerShard } else { Sharing::OneReceiver };
        assert_eq!(os.sharing(Receivers::Auto, 4), Ok(by_default), "{os}");
        assert_eq!(os.sharing(Receivers::One, 4), Ok(Sharing::OneReceiver), "{os}");
        assert_eq!(os.sharing(Receivers::PerShard, 4).is_ok(), balanced, "{os}");
        // One shard is every shard.
        for asked in [Receivers::Auto, Receivers::PerShard] {
            assert_eq!(os.sharing(asked, 1), Ok(Sharing::PerShard), "{os}");
        }
        assert_eq!(os.sharing(Receivers::One, 1), Ok(Sharing::OneReceiver), "{os}");
        if let Err(error) = os.sharing(Receivers::PerShard, 2) {
            let text = error.to_string();
            assert!(text.contains("receivers=per-shard") && text.contains(&os.to_string()), "{text}");
            assert!(text.contains(os.balancing().because) && text.ends_with("for one shard"), "{text}");
        }
    }
}

#[test]
fn receivers_take_turns() {
    let of = |listen| Sharing::OneReceiver.receiver(listen, 3);
    assert_eq!((0..5).map(of).collect::<Vec<_>>(), [Some(0), Some(1), Some(2), Some(0), Some(1)]);
    assert_eq!(Sharing::PerShard.receiver(2, 3), None);
}

#[test]
fn linux_founds_a_group_before_its_first_bind_and_lets_nobody_in() {
    let first: &[Step] = &[NoReuseAddress, ReusePort(true), Steer, ReusePort(false), Bind, ReusePort(true)];
    let next: &[Step] = &[NoReuseAddress, ReusePort(true), Bind];
    let plan = ListeningPlan::fresh(Os::Linux, 3, Sharing::PerShard);
    assert_eq!(shape(&plan), [(Role::Listener, first), (Role::Listener, next), (Role::Listener, next)]);
    let plan = ListeningPlan::fresh(Os::Linux, 1, Sharing::PerShard);
    assert_eq!(shape(&plan), [(Role::Listener, first), (Role::Founder, next)]);
    let alone: &[Step] = &[NoReuseAddress, ReusePort(false), Bind];
    let plan = ListeningPlan::fresh(Os::Linux, 3, Sharing::OneReceiver);
    assert_eq!(shape(&plan), [(Role::Listener, alone)]);
}

#[test]
fn freebsd_looks_whether_the_port_is_free_and_shares_it_among_shards() {
    let plan = ListeningPlan::fresh(Os::FreeBsd, 2, Sharing::PerShard);
    let member: (Role, &[Step]) = (Role::Listener, &[ReusePortBalanced, Bind]);
    let probe: (Role, &[Step]) = (Role::Probe, &[Bind]);
    assert_eq!(shape(&plan), [probe, member, member]);
    let plan = ListeningPlan::fresh(Os::FreeBsd, 2, Sharing::OneReceiver);
    assert_eq!(shape(&plan), [(Role::Listener, &[Bind][..])]);
}

#[test]
fn others_bind_one_socket_and_windows_keeps_its_port() {
    for os in UNBALANCED {
        for shards in [1, 4] {
            let plan =
                ListeningPlan::fresh(os, shards, os.sharing(Receivers::Auto, shards).expect("a default"));
            let steps: &[Step] = if os == Os::Windows { &[ExclusiveUse, Bind] } else { &[Bind] };
            assert_eq!(shape(&plan), [(Role::Listener, steps)], "{os}");
        }
    }
}

/// The socket that finds the port for port 0 must not be one that shares it with somebody: no way of sharing is on
/// when it is bound.
#[test]
fn the_first_bind_shares_with_nobody() {
    for os in Os::ALL {
        for shards in [1, 3] {
            for sharing in [Sharing::PerShard, Sharing::OneReceiver] {
                let plan = ListeningPlan::fresh(os, shards, sharing);
                let before = plan.sockets[0].steps.iter().take_while(|step| **step != Bind);
                let shares = before.fold(false, |shares, step| match step {
                    ReusePort(on) => *on,
                    ReusePortBalanced => true,
                    _ => shares,
                });
                assert!(!shares, "{os} {shards} {sharing:?}");
            }
        }
    }
}

#[test]
fn every_plan_has_a_listener_for_each_that_receives() {
    for os in Os::ALL {
        for shards in [1, 2, 16] {
            for asked in [Receivers::Auto, Receivers::PerShard, Receivers::One] {
                let Ok(sharing) = os.sharing(asked, shards) else { continue };
                let plan = ListeningPlan::fresh(os, shards, sharing);
                let listeners = plan.sockets.iter().filter(|socket| socket.role == Role::Listener);
                let expected = if sharing == Sharing::PerShard { usize::from(shards) } else { 1 };
                assert_eq!(listeners.count(), expected, "{os} {shards} {asked}");
                assert!(plan.sockets.iter().all(|socket| socket.steps.contains(&Bind)));
                assert_eq!(plan.sharing, sharing);
            }
        }
    }
}

#[test]
fn specific_groups_stand_beside_wildcards_on_linux_only() {
    for os in Os::ALL {
        let plan = ListeningPlan::beside(os, 2);
        assert_eq!(plan.is_ok(), os == Os::Linux, "{os}");
        if let Ok(plan) = plan {
            let first: &[Step] = &[NoReuseAddress, ReusePort(true), Bind, Steer];
            assert_eq!(plan.sockets[0].steps, first, "a program before such a bind has it refused");
            assert_eq!(plan.sockets.len(), 2);
        }
    }
}

#[test]
fn specific_addresses_come_first_on_windows() {
    let all: Vec<SocketAddr> = ["0.0.0.0:53", "192.0.2.1:53", "[::]:53", "[2001:db8::1]:53"]
        .iter()
        .map(|text| text.parse().expect(text))
        .collect();
    for os in Os::ALL {
        let expected = if os == Os::Windows { [1, 3, 0, 2] } else { [0, 1, 2, 3] };
        assert_eq!(os.bind_order(&all), expected, "{os}");
    }
}

#[test]
fn packet_info_is_asked_for_where_the_socket_does_not_say_it() {
    for os in Os::ALL {
        assert!(os.needs_packet_info([0, 0, 0, 0].into()) && os.needs_packet_info([0_u16; 8].into()));
        assert!(!os.needs_packet_info([192, 0, 2, 1].into()), "{os}: its own address says it all");
        assert_eq!(os.packet_info(true).is, PacketInfo::Ipv6PacketInfo);
    }
    for os in [Os::FreeBsd, Os::OpenBsd, Os::NetBsd, Os::MacOs] {
        assert_eq!(os.packet_info(false).is, PacketInfo::IpReceivedDestination, "{os}");
    }
    for os in [Os::Linux, Os::Windows] {
        assert_eq!(os.packet_info(false).is, PacketInfo::IpPacketInfo, "{os}");
    }
    assert!(!Os::MacOs.specific_packet_info().is);
}

#[test]
fn what_each_system_can_do() {
    for os in Os::ALL {
        assert_eq!(os.connected_tier().is, os == Os::Linux, "{os}");
        assert_eq!(os.peer_error_fails_receive().is, os == Os::Windows, "{os}");
        assert_eq!(os.exclusive().is == Exclusive::Option, os == Os::Windows, "{os}");
        assert_eq!(os.trains_out().is, os == Os::Linux, "{os}");
        assert_eq!(os.trains_in().is, os == Os::Linux, "{os}");
        assert_eq!(os.drop_counter().is, os == Os::Linux, "{os}");
        assert_eq!(os.source_selection().is, os != Os::Other, "{os}");
        assert!(os.ipv6_only().is);
    }
    assert_eq!(Os::Windows.beside_wildcard().is, Beside::IfFirst);
    for os in [Os::FreeBsd, Os::OpenBsd, Os::NetBsd, Os::MacOs] {
        assert_eq!(os.beside_wildcard().is, Beside::Refused, "{os}");
    }
}

fn asked(change: impl FnOnce(&mut SocketOptions)) -> SocketOptions {
    let mut options = SocketOptions::default();
    change(&mut options);
    options
}

/// Whether a setting can be had, for IPv4 and for IPv6.
fn granted(os: Os, options: &SocketOptions) -> [bool; 2] {
    [false, true].map(|ipv6| match os.check(options, ipv6) {
        Ok(()) => true,
        Err(error) => {
            let text = error.to_string();
            assert!(text.contains(&format!("{}={}", error.setting, error.value)), "{text}");
            assert!(text.contains(error.because) && text.ends_with(error.remedy), "{text}");
            assert!(!text.contains('\n') && !text.contains("  "), "{text}");
            false
        }
    })
}

#[test]
fn what_is_asked_for_in_vain_is_refused() {
    let times = asked(|o| o.receive_timestamps = true);
    let marks = asked(|o| o.ecn = true);
    let no_loop = asked(|o| o.multicast_loop = false);
    let [refuse, probe, fragment] =
        [PathMtu::Refuse, PathMtu::Probe, PathMtu::Fragment].map(|mode| asked(|o| o.path_mtu = mode));
    for os in Os::ALL {
        let linux = os == Os::Linux;
        assert_eq!(granted(os, &SocketOptions::default()), [true, true], "{os}: the defaults");
        assert_eq!(granted(os, &times), [linux; 2], "{os}");
        let expected = match os {
            Os::OpenBsd | Os::NetBsd => [false, true],
            Os::Other => [false, false],
            _ => [true, true],
        };
        assert_eq!(granted(os, &marks), expected, "{os}: marks");
        assert_eq!(granted(os, &no_loop), [os != Os::Windows; 2], "{os}: loop");
        let probes = if os == Os::Windows { [false, false] } else { expected };
        assert_eq!(granted(os, &probe), probes, "{os}: probe");
        assert_eq!(granted(os, &refuse), [linux; 2], "{os}: refuse");
        let fragments = match os {
            Os::Linux | Os::Windows => [true, true],
            Os::OpenBsd | Os::NetBsd => [true, false],
            _ => [false, false],
        };
        assert_eq!(granted(os, &fragment), fragments, "{os}: fragment");
    }
}

#[test]
fn what_only_the_default_asks_for_is_said() {
    for os in Os::ALL {
        for ipv6 in [false, true] {
            for wildcard in [false, true] {
                let lines = os.downgrades(&SocketOptions::default(), ipv6, wildcard);
                let about = |word: &str| lines.iter().any(|line| line.contains(word));
                assert_eq!(about("path_mtu=system"), !os.may_fragment(ipv6).is, "{os}");
                assert_eq!(about("another address"), os == Os::Other && wildcard && !ipv6, "{os}");
            }
            let probing = asked(|o| o.path_mtu = PathMtu::Probe);
            assert!(os.downgrades(&probing, ipv6, false).is_empty(), "{os}: it is what was asked for");
        }
    }
}

#[test]
fn this_system_is_one_of_them() {
    assert_eq!(Os::HERE == Os::Linux, cfg!(target_os = "linux"));
    assert!(Os::ALL.contains(&Os::HERE));
}

#[test]
fn without_control_messages_nothing_is_promised_that_takes_them() {
    use shardgram_core::Capability::{EcnIn, EcnOut, Timestamps, TrainsIn};

    for os in Os::ALL {
        assert_eq!(os.check_without_control(&SocketOptions::default()), Ok(()), "{os}");
        let ecn = SocketOptions { ecn: true, ..SocketOptions::default() };
        let times = SocketOptions { receive_timestamps: true, ..SocketOptions::default() };
        for (asked, setting) in [(ecn, "ecn"), (times, "receive_timestamps")] {
            let error = os.check_without_control(&asked).expect_err(setting);
            assert_eq!((error.setting, error.os), (setting, os));
            assert!(error.to_string().starts_with(&format!("{setting}=true was asked for")), "{error}");
        }
        for sharing in [Sharing::PerShard, Sharing::OneReceiver] {
            let (able, without) = (os.able(sharing), os.able_without_control(sharing));
            let lost: Vec<_> = able.iter().filter(|one| !without.contains(one)).collect();
            assert!(without.iter().all(|one| able.contains(one)), "{os}");
            assert!(
                lost.iter().all(|one| [TrainsIn, EcnOut, EcnIn, Timestamps].contains(one)),
                "{os}: {lost:?}"
            );
            assert!(![TrainsIn, EcnIn, Timestamps].iter().any(|one| without.contains(one)), "{os}");
            assert_eq!(without.contains(&EcnOut), os == Os::Linux, "{os}: written by the driver itself");
        }
    }
}
